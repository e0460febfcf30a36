"""The command line: finds the command, and turns a user's mistake into one line.

Each command is a module of `proximo.commands`, imported when it is asked for.
"""

import contextlib
import importlib
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from proximo.errors import EnvironmentNotNamed, Told, UserError, as_error, say
from proximo.paths import working_folder

USAGE = """usage: proximo COMMAND ...

Proximal Policy Optimization, from an environment to a trained policy.

  train ENV      train a policy             proximo train CartPole-v1
  evaluate RUN   play whole episodes        proximo evaluate runs/CartPole-v1-0-...
  watch RUN      see it play                proximo watch runs/CartPole-v1-0-... --video play.mp4
  report RUN...  a page about runs          proximo report runs/CartPole-v1-0-...
  export RUN     for other programs         proximo export runs/CartPole-v1-0-... --onnx
  sweep ENV      search the options         proximo sweep Hopper-v5 --vary learning_rate=1e-5:1e-3:log
  bench ENV      how fast each part is      proximo bench HalfCheetah-v5
  check ENV      is the environment sound   proximo check my_module:MyEnv-v0
  reproduce GRID run a table of the paper   proximo reproduce table1-quick
  lm COMMAND     train language models      proximo lm sft MODEL --data texts.jsonl

`proximo COMMAND --help` lists a command's options.
"""

COMMANDS = ("train", "evaluate", "watch", "report", "export", "sweep", "bench", "check", "reproduce", "lm")


@contextlib.contextmanager
def one_line_warnings(command: str, debug: bool) -> Iterator[None]:
    """What a run tells of on its way, as one line each, every time; with `debug` also what lies behind it."""

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, Told):
            return before(message, category, *place, **more)
        say(f"proximo {command}: {message}")
        if debug and isinstance(message, Warning) and message.__cause__ is not None:
            traceback.print_exception(message.__cause__)
        return None

    with warnings.catch_warnings():
        before = warnings.showwarning
        warnings.showwarning = show
        warnings.simplefilter("always", Told)
        yield


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for failed work, 2 for what the user can mend."""
    open_streams()
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
    name = " ".join(words[: 2 if words[0] == "lm" else 1])
    try:
        command = importlib.import_module(f"proximo.commands.{words[0]}")
        with working_folder(), one_line_warnings(name, "--debug" in words):
            status = run_command(command, command.read(words[1:]))
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as interrupt:  # it may carry the signal's number
        say(f"proximo {name}: interrupted")
        return 128 + int(interrupt.args[0]) if interrupt.args else 130
    except BrokenPipeError:  # before the other errors of the system, of which it is one
        say(f"proximo {name}: nobody reads the output any more")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it is not written
        return 141
    except (UserError, OSError) as error:  # such as a full disk: nothing that a stack of calls would explain
        if "--debug" in words:
            traceback.print_exc()
        told = with_line_to_type(error, words) if isinstance(error, EnvironmentNotNamed) else error
        say(f"proximo {name}: {told}")
        return 2 if isinstance(error, UserError) else 1


def run_command(command: Any, arguments: Any) -> int:
    """The exit status of a command. Raises UserError where the user's code asks for the program's end.

    Where an environment does so while it trains, it is a fault like others; this is for all the rest.
    """
    try:
        return int(command.run(arguments))
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:
        raise UserError(f"code of yours failed: {as_error(end)} (--debug shows its traceback)") from end


def with_line_to_type(error: EnvironmentNotNamed, words: list[str]) -> str:
    """What is missing, and the same command with the environment in it."""
    env = error.source or "FILE.py:NAME"
    whole = ["train", env, *words[1:]] if words[0] == "train" else [*words, "--env", env]
    return f"{error.problem}; type: {shlex.join(['proximo', *whole])}"


def open_streams() -> None:
    """Standard streams that are closed, as in a service, lead nowhere: files would take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue  # taken by something else already
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
