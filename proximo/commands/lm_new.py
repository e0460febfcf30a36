"""`proximo lm new FOLDER --texts FILE`: make a small new model."""

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
    """Make a small new model: a tokenizer trained on your texts, and random weights. Nothing is downloaded.

    The folder has the Hugging Face Hub's format. Train the model with `proximo lm sft FOLDER --data FILE`.
    """

    folder: tyro.conf.Positional[Path]
    """The model folder to create."""
    options: Annotated[NewModelOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return New


def read(command: str, words: list[str]) -> New:
    """Parse the command line."""
    return parse_words(New, f"lm {command}", words)


def run(arguments: New) -> int:
    """Make the model; returns the exit status."""
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
    """The command to type next."""
    texts = data if data.suffix in (".jsonl", ".json") else "texts.jsonl"
    return f"proximo lm sft {folder} --data {texts} --learning-rate 1e-3"
