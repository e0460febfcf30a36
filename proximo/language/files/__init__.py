"""Models as folders in the Hugging Face Hub's format."""
