"""The command line: finds the command, and turns a user's mistake into one line.

Each command is a module of `proximo.commands`, imported when it is asked for.
"""

import importlib
import sys
import traceback
from collections.abc import Sequence

from proximo.errors import UserError

USAGE = """usage: proximo COMMAND ...

Proximal Policy Optimization, from an environment to a trained policy.

  train ENV      train a policy             proximo train CartPole-v1
  evaluate RUN   play whole episodes        proximo evaluate runs/CartPole-v1-0-...
  bench ENV      how fast each part is      proximo bench HalfCheetah-v5
  check ENV      is the environment sound   proximo check my_module:MyEnv-v0
  reproduce GRID run a table of the paper   proximo reproduce table1-quick

`proximo COMMAND --help` lists a command's options.
"""

COMMANDS = ("train", "evaluate", "bench", "check", "reproduce")


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for failed work, 2 for what the user can mend."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("proximo"))
        return 0
    if words[0] not in COMMANDS:
        print(
            f"proximo: there is no command {words[0]!r}: take one of {', '.join(COMMANDS)}", file=sys.stderr
        )
        return 2
    try:
        command = importlib.import_module(f"proximo.commands.{words[0]}")
        return int(command.run(command.read(words[1:])))
    except UserError as error:
        if "--debug" in words:
            traceback.print_exc()
        print(f"proximo {words[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"proximo {words[0]}: interrupted", file=sys.stderr)
        return 130
