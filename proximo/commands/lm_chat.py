"""`proximo lm chat MODEL`: chat with a language model in the terminal."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from proximo.arguments import parse
from proximo.commands.lm_generate import Answering
from proximo.errors import UserError, say
from proximo.language.language_model import LanguageModel
from proximo.language.text.data import read_prompts
from proximo.language.train.respond import Answer, GenerationOptions, answers, length_of
from proximo.options import checked
from proximo.runs.process import prepare_process
from proximo.words import understood

FORGET, END = "/new", ("/exit", "/quit")


@dataclass(frozen=True, kw_only=True)
class Chat(Answering):
    """Chat with a language model in the terminal. The model answers each line that you type.

    A model with a chat template answers as the assistant and remembers the conversation. Any other model
    continues each line. `/new` starts a new conversation; `/exit`, Ctrl-D or Ctrl-C quits. Input may also
    come from a pipe.

    MODEL may be the first word: a model folder, a run, or an id of the Hugging Face Hub.
    """

    system: str | None = None
    """System message at the start of every conversation."""
    json: bool = False
    """Print each answer as one line of JSON."""


def arguments_of(command: str) -> Any:
    """The class of its arguments."""
    return Chat


def read(command: str, words: list[str]) -> Chat:
    """Parse the command line."""
    return parse(Chat, f"lm {command}", understood(command, words, Chat))


def run(arguments: Chat) -> int:
    """Chat until the input ends; returns the exit status."""
    prepare_process()
    drawing = checked(arguments.drawing)
    if drawing.samples != 1:
        raise UserError(f"samples is {drawing.samples}: a chat has one answer per message, so set it to 1")
    model = arguments.loaded()
    talk = Conversation(model, drawing, arguments.system)
    typed = sys.stdin.isatty()
    if typed:
        kind = "answers each message" if talk.remembers else "has no chat template, so it continues each line"
        say(f"{arguments.model} {kind}. {FORGET} starts a new conversation, {END[0]} or Ctrl-D quits.")
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines(typed):
            if line in END:
                return 0
            if line == FORGET:
                talk.forget()
                continue
            try:
                answer = talk.answer(line)
            except UserError as error:  # about this line: the conversation continues
                say(f"proximo lm chat: {error}")
                continue
            print(json.dumps(as_row(answer)) if arguments.json else said(answer), flush=True)
        if typed:
            print()  # after Ctrl-D, which leaves the cursor in the line
        return 0
    print()
    return 0


def lines(typed: bool) -> Iterator[str]:
    """Input lines, typed or from a pipe, without empty ones."""
    while True:
        try:
            line = input("> " if typed else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()


def said(answer: Answer) -> str:
    """An answer as text; an ellipsis marks one that was cut off."""
    return answer.completion + ("" if answer.finished else " ...")


def as_row(answer: Answer) -> dict[str, Any]:
    """An answer as plain data."""
    return {"completion": answer.completion, "tokens": answer.tokens, "finished": answer.finished}


class Conversation:
    """A conversation with its messages so far.

    remembers  whether the model has a chat template; otherwise it continues each line separately
    """

    def __init__(self, model: LanguageModel, drawing: GenerationOptions, system: str | None = None) -> None:
        self.model, self.drawing, self.turns = model, drawing, 0
        self.remembers = model.tokenizer.template is not None
        if system is not None and not self.remembers:
            raise UserError("--system needs a chat template, but the model has none: leave it out")
        self.first = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[dict[str, str]] = []

    def forget(self) -> None:
        """Start a new conversation."""
        self.messages = []

    def answer(self, line: str) -> Answer:
        """The model's answer. If the context is too short for all turns, the oldest are dropped.

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
                    f"this message has {len(prompt.ids)} tokens, but only {max(room, 0)} fit before an "
                    "answer: write less, or lower --max-new-tokens"
                )
            kept = kept[2:]  # a question and its answer
        drawing = replace(self.drawing, seed=self.drawing.seed + self.turns, batch_size=1)
        (found,) = answers(model.transformer, model.tokenizer, [prompt], drawing)
        self.turns += 1
        if self.remembers:
            spoken = [{"role": "assistant", "content": found.completion}] if found.completion else []
            self.messages = [*kept, *spoken] if spoken else kept[:-1]  # an empty answer is no turn
        return found
