"""What language models learn by, on the engine of `proximo.learn`."""
