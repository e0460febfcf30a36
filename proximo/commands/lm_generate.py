"""`proximo lm generate MODEL`: answer prompts."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from proximo.arguments import Shown, parse
from proximo.errors import UserError
from proximo.language.language_model import LanguageModel, load
from proximo.language.text.messages import normalise_messages
from proximo.language.text.records import Invalid
from proximo.language.train.respond import Answer, GenerationOptions, answers, prompts_of
from proximo.options import FILE, MODEL, also
from proximo.runs.process import prepare_process
from proximo.runs.sealed import writing
from proximo.words import understood


@dataclass(frozen=True, kw_only=True)
class Answering(Shown):
    """Options of a command that loads a model and samples its answers."""

    model: Annotated[str, MODEL, also("--model-name-or-path")]
    """A model folder, a run, or an id of the Hugging Face Hub."""
    drawing: Annotated[GenerationOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="sampling")] = field(
        default_factory=GenerationOptions
    )
    eos_token: str | None = None
    """End-of-text token, which ends a response; by default the tokenizer's."""
    pad_token: str | None = None
    """Padding token; by default the tokenizer's."""
    chat_template: Annotated[Path | None, FILE] = None
    """A file with a chat template (Jinja) to use instead of the model's."""
    chat_template_kwargs: str | None = None
    """Variables for the chat template, as JSON: `{"enable_thinking": false}`."""

    def loaded(self) -> LanguageModel:
        """The model. Raises UserError as `load`."""
        return load(
            self.model,
            eos_token=self.eos_token,
            pad_token=self.pad_token,
            chat_template=self.chat_template,
            chat_template_kwargs=self.chat_template_kwargs,
        )


@dataclass(frozen=True, kw_only=True)
class Generate(Answering):
    """Answer prompts with a language model.

    A record's own column `chat_template_kwargs` has priority over the option.

    MODEL may be the first word: a model folder, a run, or an id of the Hugging Face Hub.
    """

    prompt: tuple[str, ...] = ()
    """One prompt, or several."""
    data: Annotated[Path | None, FILE, also("--dataset-name")] = None
    """A file of prompts instead of --prompt: JSON lines with `prompt`, a text or messages."""
    chat: bool = False
    """Treat each --prompt as a user's message, and apply the model's chat template."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What to do with prompts that are too long: `refuse` all, or `drop` them."""
    invalid: Invalid = "refuse"
    """What to do with invalid records, such as empty prompts: `refuse` all, or `drop` them."""
    out: Annotated[Path | None, FILE] = None
    """Write the records with their completions to this new file, as JSON lines."""
    json: bool = False
    """Print one JSON list."""
    quiet: bool = False
    """Print nothing. Use it with --out."""


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return Generate


def read(command: str, words: list[str]) -> Generate:
    """Parse the command line."""
    return parse(Generate, f"lm {command}", understood(command, words, Generate))


def run(arguments: Generate) -> int:
    """Answer the prompts; returns the exit status."""
    prepare_process()
    source, out = source_of(arguments), arguments.out
    if out is not None and (out.exists() or not out.parent.is_dir()):
        reason = "it already exists" if out.exists() else f"there is no folder {out.parent}"
        raise UserError(f"cannot write {out}: {reason}")
    model = arguments.loaded()
    prompts = prompts_of(
        source, model.config, model.tokenizer, arguments.drawing, arguments.overlong, arguments.invalid
    )
    notes = (*model.tokenizer.notes, *prompts.notes(arguments.data or "--prompt"))
    for note in () if arguments.quiet else notes:
        print(f"note: {note}", file=sys.stderr)
    found = []
    for answer in answers(model.transformer, model.tokenizer, prompts.records, arguments.drawing):
        found.append(record(answer))
        if out is not None:
            with writing(out), out.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
        if not arguments.json and not arguments.quiet:
            print(f"{format_answer(answer)}\n", flush=True)
    if arguments.json:
        print(json.dumps(found))
    return 0


def source_of(arguments: Generate) -> Any:
    """The prompts. Raises UserError unless they are given in exactly one of the two ways."""
    if bool(arguments.prompt) == (arguments.data is not None):
        raise UserError('give prompts in one way: --prompt "..." or --data prompts.jsonl')
    if arguments.data is not None:
        if arguments.chat:
            raise UserError("--chat goes with --prompt: in --data, write prompts as messages")
        return arguments.data
    if arguments.chat:
        return [{"prompt": [{"role": "user", "content": text}]} for text in arguments.prompt]
    return [{"prompt": text} for text in arguments.prompt]


def record(answer: Answer) -> dict[str, Any]:
    """An answer as plain data, in a format that `proximo lm sft` accepts."""
    spoken = [{"role": "assistant", "content": answer.completion}]
    return {
        **answer.columns,
        "prompt": answer.prompt,
        "completion": answer.completion if isinstance(answer.prompt, str) else spoken,
        "tokens": answer.tokens,
        "finished": answer.finished,
        "log_prob": answer.log_prob,
    }


def format_answer(answer: Answer) -> str:
    """An answer as text: its prompt, each line marked with >, and the completion."""
    text = answer.prompt
    if not isinstance(text, str):
        text = "\n".join(f"{one['role']}: {one['content']}" for one in normalise_messages(text, "prompt"))
    prompt = "\n".join(f"> {line}" for line in text.splitlines())
    return f"{prompt}\n{answer.completion}" + ("" if answer.finished else " ...")
