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

import proximo
from proximo.errors import EnvironmentNotNamed, Told, UserError, as_error, nearest, say
from proximo.importing import typed_by_user
from proximo.paths import working_folder

USAGE = """usage: proximo COMMAND ...

Proximal Policy Optimization, from an environment to a trained policy.

  train ENV      train a policy             proximo train CartPole-v1
  evaluate RUN   play full episodes         proximo evaluate runs/CartPole-v1-0-...
  watch RUN      watch it play              proximo watch runs/CartPole-v1-0-... --video play.mp4
  report RUN...  an HTML report             proximo report runs/CartPole-v1-0-...
  inspect RUN    look into one update       proximo inspect runs/CartPole-v1-0-... --what-if clip:0.1
  export RUN     save it as ONNX            proximo export runs/CartPole-v1-0-...
  runs [FOLDER]  list runs                  proximo runs
  sweep ENV      tune hyperparameters       proximo sweep Hopper-v5 --vary learning_rate=1e-5:1e-3:log
  bench ENV      measure the speed          proximo bench HalfCheetah-v5
  check ENV      check an environment       proximo check my_file.py:MyEnv
  reproduce GRID reproduce the paper        proximo reproduce table1-quick
  lm COMMAND     train language models      proximo lm sft MODEL --data texts.jsonl
  completion     tab completion             proximo completion bash

`proximo COMMAND --help` lists the options of a command. `proximo --version` prints the version.
"""

COMMANDS = (
    *(
        "train",
        "evaluate",
        "watch",
        "report",
        "inspect",
        "export",
        "runs",
        "sweep",
        "bench",
        "check",
        "reproduce",
        "lm",
    ),
    "completion",
)


@contextlib.contextmanager
def one_line_warnings(command: str, debug: bool) -> Iterator[None]:
    """Warnings of a run, one line each, every time; with `debug` also what caused them.

    Gymnasium's checker warns of each fault of an environment in lines of its own. We accept most of these
    faults, and `proximo check` explains each of them: one line says so.
    """
    checked = False

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        nonlocal checked
        if place and str(place[0]).endswith("passive_env_checker.py") and not debug:
            if not checked and command != "check":
                say(f"proximo {command}: Gymnasium's checker has warnings: `proximo check ENV` explains them")
            checked = True
            return None
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
        warnings.filterwarnings("ignore", "pkg_resources is deprecated")  # pygame's, not for users
        yield


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0 for success, 1 for failed work, 2 for a mistake that the user can fix, 141 if the output pipe closed.
    """
    open_streams()
    words = list(sys.argv[1:] if words is None else words)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        status = overview(words) if not words or words[0] not in COMMANDS else command(words)
        sys.stdout.flush()
        return status
    except SystemExit:  # the help of a command was shown
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            return without_reader()
        raise
    except BrokenPipeError:  # a reader such as `head` had enough: the work is done, or kept
        return without_reader()


def overview(words: list[str]) -> int:
    """Answer a call without a command, such as `--version`; returns the exit status."""
    word = words[0] if words else ""
    if word in ("-V", "--version", "version"):
        print(proximo.__version__)
    elif word in ("", "-h", "--help"):
        print(USAGE)
        return 0 if word else 2
    elif word.startswith("-"):
        say(f"proximo: the command comes before its options, as in: proximo train CartPole-v1 {word}")
        return 2
    else:
        say(f"proximo: there is no command {word!r}: {nearest(word, COMMANDS)}")
        return 2
    return 0


def command(words: list[str]) -> int:
    """Run a command that exists; returns the exit status."""
    name = " ".join(words[: 2 if words[0] == "lm" else 1])
    try:
        module = importlib.import_module(f"proximo.commands.{words[0]}")
        with working_folder(), typed_by_user(words), one_line_warnings(name, "--debug" in words):
            status = run_command(module, module.read(words[1:]))
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as interrupt:  # it may carry the signal's number
        say(f"proximo {name}: interrupted")
        return 128 + int(interrupt.args[0]) if interrupt.args else 130
    except BrokenPipeError:
        raise  # an error of the system like those below
    except (UserError, OSError) as error:  # such as a full disk: nothing that a stack of calls would explain
        if "--debug" in words:
            traceback.print_exc()
        told = with_line_to_type(error, words) if isinstance(error, EnvironmentNotNamed) else error
        say(f"proximo {name}: {told}")
        return 2 if isinstance(error, UserError) else 1


def without_reader() -> int:
    """Discard the rest of the output; returns the exit status of a program whose output pipe was closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # what is left would be flushed, and fail, when Python ends: status 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 128 + 13  # SIGPIPE's number


def run_command(command: Any, arguments: Any) -> int:
    """The exit status of a command. Raises UserError if the user's code tries to exit the program.

    During training an environment that exits is an environment fault; this covers everything else.
    """
    try:
        return int(command.run(arguments))
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:
        raise UserError(f"your code failed: {as_error(end)} (--debug shows its traceback)") from end


def with_line_to_type(error: EnvironmentNotNamed, words: list[str]) -> str:
    """The error, and the same command with the environment added."""
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
