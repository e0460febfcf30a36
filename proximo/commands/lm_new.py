"""`proximo lm new FOLDER --texts FILE`: make a small model of one's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from proximo.arguments import Shown, parse_words
from proximo.language.new_model import NewModelOptions, as_plain, in_words, make_model
from proximo.paths import short
from proximo.runs.process import prepare_process


@dataclass(frozen=True, kw_only=True)
class New(Shown):
    """Make a small model of your own, offline: a tokenizer learned from your texts, and random weights.

    The folder is as on the Hugging Face Hub; `proximo lm sft FOLDER` trains the model on the same texts.
    """

    folder: tyro.conf.Positional[Path]
    """Where to write the model; must be new."""
    options: Annotated[NewModelOptions, tyro.conf.OmitArgPrefixes]


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return New


def read(command: str, words: list[str]) -> New:
    """The arguments that were typed."""
    return parse_words(New, f"lm {command}", words)


def run(arguments: New) -> int:
    """Make it; returns the exit status."""
    prepare_process()
    made = make_model(arguments.folder, arguments.options)
    folder = short(arguments.folder)
    if arguments.json:
        print(json.dumps({"model": str(folder), **as_plain(made)}))
        return 0
    data = short(arguments.options.texts)
    print(f"{in_words(made)}\nmodel: {folder}\nnext: {next_step(folder, data)}")
    return 0


def next_step(folder: Path, data: Path) -> str:
    """What to do with the model."""
    texts = data if data.suffix in (".jsonl", ".json") else "texts.jsonl"
    return f"proximo lm sft {folder} --data {texts} --learning-rate 1e-3"
