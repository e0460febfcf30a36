"""One module per command: `read(words) -> arguments` and `run(arguments) -> exit status`."""
