"""What stays of a run: its folder, its model, its evaluation."""
