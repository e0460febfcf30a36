"""`proximo lm chat MODEL`: talk with a language model."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from proximo.arguments import Shown, parse
from proximo.errors import UserError, say
from proximo.language.language_model import LanguageModel, load
from proximo.language.text.data import read_prompts
from proximo.language.train.respond import Answer, GenerationOptions, answers, length_of
from proximo.options import also, checked
from proximo.runs.process import prepare_process
from proximo.words import understood

FORGET, END = "/new", ("/exit", "/quit")


@dataclass(frozen=True, kw_only=True)
class Chat(Shown):
    """Talk with a language model: each line that you type is answered.

    A model with a chat template answers as the assistant and remembers the conversation; any other model
    continues each line. `/new` starts a new conversation; `/exit`, Ctrl-D or Ctrl-C ends. Lines may also come
    from a pipe.

    The model may be the first word: a folder, a run, or an id of the Hub.
    """

    model: Annotated[str, also("--model-name-or-path")]
    """A model folder, a run, or an id of the Hugging Face Hub."""
    system: str | None = None
    """System message of every conversation."""
    drawing: Annotated[GenerationOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=GenerationOptions
    )
    eos_token: str | None = None
    """End-of-text token, if the tokenizer names none."""
    pad_token: str | None = None
    """Padding token, if the tokenizer names none."""
    chat_template: Path | None = None
    """A file with a chat template (Jinja), instead of the model's own."""
    chat_template_kwargs: str | None = None
    """Variables for the chat template, as JSON: `{"enable_thinking": false}`."""
    json: bool = False
    """Print each answer as one line of JSON."""


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return Chat


def read(command: str, words: list[str]) -> Chat:
    """The arguments that were typed."""
    return parse(Chat, f"lm {command}", understood(command, words, Chat))


def run(arguments: Chat) -> int:
    """Talk until the end of the input; returns the exit status."""
    prepare_process()
    drawing = checked(arguments.drawing)
    if drawing.samples != 1:
        raise UserError(f"samples is {drawing.samples}: a conversation has one answer to each message")
    model = load(
        arguments.model,
        eos_token=arguments.eos_token,
        pad_token=arguments.pad_token,
        chat_template=arguments.chat_template,
        chat_template_kwargs=arguments.chat_template_kwargs,
    )
    talk = Conversation(model, drawing, arguments.system)
    typed = sys.stdin.isatty()
    if typed:
        kind = "answers" if talk.remembers else "has no chat template: it continues each line"
        say(f"{arguments.model} {kind}. {FORGET}: a new conversation; {END[0]} or Ctrl-D: the end.")
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines(typed):
            if line in END:
                return 0
            if line == FORGET:
                talk.forget()
                continue
            try:
                answer = talk.answer(line)
            except UserError as error:  # of this line: the conversation goes on
                say(f"proximo lm chat: {error}")
                continue
            print(json.dumps(as_row(answer)) if arguments.json else said(answer), flush=True)
        if typed:
            print()  # behind Ctrl-D, which leaves the cursor where it is
        return 0
    print()
    return 0


def lines(typed: bool) -> Iterator[str]:
    """What is typed, or comes from a pipe, line by line; empty lines are nothing."""
    while True:
        try:
            line = input("> " if typed else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()


def said(answer: Answer) -> str:
    """An answer as a person reads it; dots stand where it was cut."""
    return answer.completion + ("" if answer.finished else " ...")


def as_row(answer: Answer) -> dict[str, Any]:
    """An answer as plain data."""
    return {"completion": answer.completion, "tokens": answer.tokens, "finished": answer.finished}


class Conversation:
    """The conversation so far.

    remembers  whether the model has a chat template; else it continues each line by itself
    """

    def __init__(self, model: LanguageModel, drawing: GenerationOptions, system: str | None = None) -> None:
        self.model, self.drawing, self.turns = model, drawing, 0
        self.remembers = model.tokenizer.template is not None
        if system is not None and not self.remembers:
            raise UserError("system needs a chat template, and the model has none: leave it out")
        self.first = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[dict[str, str]] = []

    def forget(self) -> None:
        """Forget the conversation."""
        self.messages = []

    def answer(self, line: str) -> Answer:
        """The model's answer. The oldest turns are forgotten where the context is too short for all.

        Raises UserError for a line that leaves no room for an answer, or that cannot be encoded.
        """
        model, kept = self.model, [*self.messages, {"role": "user", "content": line}]
        room = model.config.context - length_of(self.drawing, model.config)
        while True:
            given: Any = [*self.first, *kept] if self.remembers else line
            (prompt,) = read_prompts([{"prompt": given}], model.tokenizer, sys.maxsize).records
            if len(prompt.ids) <= room:
                break
            if len(kept) < 3:
                raise UserError(
                    f"this has {len(prompt.ids)} tokens, and the model has room for {max(room, 0)} before an "
                    "answer: write less, or lower --max-new-tokens"
                )
            kept = kept[2:]  # a question and its answer
        drawing = replace(self.drawing, seed=self.drawing.seed + self.turns, batch_size=1)
        (found,) = answers(model.transformer, model.tokenizer, [prompt], drawing)
        self.turns += 1
        if self.remembers:
            spoken = [{"role": "assistant", "content": found.completion}] if found.completion else []
            self.messages = [*kept, *spoken] if spoken else kept[:-1]  # to say nothing is no turn
        return found
