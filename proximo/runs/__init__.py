"""What a run leaves behind: its folder, its model, its evaluation."""
