"""`proximo lm eval MODEL`: measure a model on data."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from proximo.arguments import Shown, parse
from proximo.language.evaluation import EvaluationOptions, evaluate_model
from proximo.runs.process import prepare_process
from proximo.words import understood


@dataclass(frozen=True, kw_only=True)
class Evaluate(Shown):
    """Measure a model on data. The data's columns decide what is measured.

    Texts and completions: perplexity, and next-token accuracy. Preferences: how often a reward model gives
    the preferred answer the higher score. Prompts: the mean reward of the model's responses.

    MODEL may be the first word: a model folder, a run, or an id of the Hugging Face Hub.
    """

    options: Annotated[EvaluationOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return Evaluate


def read(command: str, words: list[str]) -> Evaluate:
    """Parse the command line."""
    return parse(Evaluate, f"lm {command}", understood(command, words, Evaluate))


def run(arguments: Evaluate) -> int:
    """Measure; returns the exit status."""
    prepare_process()
    found = evaluate_model(arguments.options)
    for note in found["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(found) if arguments.json else format_results(found))
    return 0


def format_results(found: dict[str, Any]) -> str:
    """The measurements as text."""
    if found["kind"] == "texts":
        cut = f" ({found['truncated']:,} truncated)" if found["truncated"] else ""
        return (
            f"{found['records']:,} texts{cut}, {found['tokens']:,} tokens: "
            f"perplexity {found['perplexity']:.4g} (loss {found['loss']:.4g} nats), "
            f"next-token accuracy {found['token_accuracy']:.1%}"
        )
    if found["kind"] == "preferences":
        return (
            f"{found['records']:,} pairs: accuracy {found['accuracy']:.1%} "
            f"(95% interval {found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}), "
            f"mean margin {found['margin']:.4g}"
        )
    sure = f"95% interval {found['low']:.4g} to {found['high']:.4g} over prompts, {found['interval']}"
    return (
        f"{found['answers']:,} responses to {found['prompts']:,} prompts: mean reward {found['reward']:.4g} "
        f"({sure if found['interval'] else 'one prompt: no interval'}), "
        f"mean length {found['length']:.1f} tokens, {found['finished']:.0%} ended with an end token"
    )
