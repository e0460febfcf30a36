"""Models as folders of the Hugging Face Hub."""
