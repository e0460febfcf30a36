"""`proximo completion SHELL`: print a shell's completion script."""

import contextlib
import dataclasses
import importlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from proximo.arguments import parse_words, registry
from proximo.cli import COMMANDS
from proximo.errors import UserError


@dataclass(frozen=True)
class Completion:
    """Print the script that makes the tab key complete commands and options.

    bash: proximo completion bash > ~/.local/share/bash-completion/completions/proximo

    zsh: proximo completion zsh > "${fpath[1]}/_proximo"

    fish: proximo completion fish > ~/.config/fish/completions/proximo.fish

    Open a new shell to use it. Write it again after you update Proximo.
    """

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(metavar="SHELL")]
    """bash, zsh or fish."""
    debug: bool = False
    """Show the traceback of an error."""


def read(words: list[str]) -> Completion:
    """The arguments that were typed."""
    return parse_words(Completion, "completion", words)


def run(arguments: Completion) -> int:
    """Print the script; returns the exit status."""
    script = io.StringIO()
    with registry, contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):  # tyro ends with it
        tyro.cli(whole(), prog="proximo", args=["--tyro-print-completion", arguments.shell])
    print(script.getvalue().replace("complete -F", "complete -o default -F"))  # where it knows nothing: files
    return 0


def whole() -> Any:
    """The whole command line as one type: a union of the arguments of every command."""
    kinds = {name: kind for name in COMMANDS if (kind := kind_of(name)) is not None}
    return choice_of(kinds)


def kind_of(command: str) -> Any:
    """The class of a command's arguments; None if a package that it needs is missing."""
    if command != "lm":
        return getattr(importlib.import_module(f"proximo.commands.{command}"), command.capitalize())
    try:
        from proximo.commands import lm

        kinds = {name: lm.arguments_of(name) for name in lm.MODULES}
    except UserError:
        return None
    one: Any = Annotated[choice_of(kinds), tyro.conf.OmitSubcommandPrefixes]
    return dataclasses.make_dataclass("LanguageModels", [("command", one)])


def choice_of(kinds: dict[str, Any]) -> Any:
    """A union of the arguments of several commands, each by its name."""
    named = [Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in kinds.items()]
    return Union[tuple(named)]  # noqa: UP007 (its members are computed)
