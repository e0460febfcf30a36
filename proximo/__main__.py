"""`python -m proximo` is the command `proximo`."""

import sys

from proximo.cli import main


def command() -> None:
    """What the installed command runs."""
    sys.exit(main())


if __name__ == "__main__":
    command()
