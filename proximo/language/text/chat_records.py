"""Conversations as a chat template writes them, compared with what their record contains.

A template is a program of the model's authors. It may leave out a message's text, tool calls or reasoning,
and it may read variables besides messages. All of a record is written, named in a note, or refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from proximo.errors import UserError
from proximo.language.text.conversations import REASONING
from proximo.language.text.messages import LOSS, Message, describe_value, without_nulls
from proximo.language.text.records import RawRecord
from proximo.language.text.templates import Messages, one_line
from proximo.language.text.tokenizer import Tokenizer

HEARD = frozenset({"role", "content", "tool_calls", "tool_call_id", *LOSS, *REASONING})
KWARGS = "chat_template_kwargs"
TAKEN = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message", "tokenize"})
"""Variables that templates always get, or that have a column of their own."""
SURE = 16  # characters that stand in a rendering by no accident


def template_notes(tokenizer: Tokenizer, given: RawRecord) -> tuple[str, ...]:
    """Notes on how the chat template writes a record; none for plain text.

    Raises UserError for a message whose text or tool calls the template does not write. The search for
    answers to train on (`conversations`) is stricter.
    """
    if not given.kind.conversational:
        return ()
    prompt, *answers = (given.record[name] for name in given.kind.columns)
    notes: dict[str, None] = {}
    for messages in [conversation(prompt, answer) for answer in answers] or [prompt]:
        check_written(tokenizer, messages)
        notes |= dict.fromkeys(_unread(tokenizer, messages))
    return tuple(notes)


def check_written(tokenizer: Tokenizer, messages: Messages) -> None:
    """Raises UserError for a message whose text or tool calls the chat template does not write.

    It may leave out reasoning, and parts of earlier messages if it writes them in some position, since the
    model will be prompted in this way.
    """
    text = tokenizer.chat(messages, False)
    for index, message in enumerate(messages):
        for part, other in _altered_messages(message, text):
            later = messages[: index + 1], messages
            if all(_is_ignored(tokenizer, some, index, other) for some in later):
                raise UserError(
                    f'the chat template leaves out "{part}" of message {index + 1} ({message["role"]}): use '
                    "a template that writes it (--chat-template), or remove it"
                )


def _altered_messages(message: Message, text: str) -> Iterator[tuple[str, Message]]:
    """The parts of a message that a template may leave out, each with the message with that part changed."""
    said = message["content"].rpartition("</think>")[2].strip()
    if said and not (len(said) >= SURE and said in text):
        yield "content", {**message, "content": f"{message['content']}x"}
    if message.get("tool_calls"):
        yield "tool_calls", {name: value for name, value in message.items() if name != "tool_calls"}


def _is_ignored(tokenizer: Tokenizer, messages: Messages, index: int, other: Message) -> bool:
    """Whether the written conversation stays the same with another message in this place."""
    changed = [*messages[:index], other, *messages[index + 1 :]]
    try:
        return tokenizer.chat(changed, False) == tokenizer.chat(messages, False)
    except UserError:  # a template that objects has looked at it
        return False


def _unread(tokenizer: Tokenizer, messages: Messages) -> Iterator[str]:
    """Notes on keys of messages that the template does not read."""
    for name in dict.fromkeys(name for message in messages for name in message):
        if name not in HEARD and not template_uses(tokenizer, name):
            yield f'the chat template does not read "{name}" of messages'


def template_uses(tokenizer: Tokenizer, name: str) -> bool:
    """Whether this name occurs in the chat template."""
    return re.search(rf"\b{re.escape(name)}\b", tokenizer.template or "") is not None


def render_continuation(tokenizer: Tokenizer, messages: Messages) -> str:
    """A conversation as text that ends inside its last message, for the model to continue.

    As `continue_final_message` of transformers: if the template strips spaces at the end of a message, the
    text ends without them.
    """
    *before, last = messages
    mark = "to be continued"
    while any(mark in str(message) for message in messages):
        mark += "+"
    text = tokenizer.chat([*before, {**last, "content": f"{last['content']}{mark} "}], False)
    place = text.rfind(mark)
    begun = text[: max(place, 0)]
    if "".join(last["content"].split()) not in "".join(begun.split()):
        raise UserError("the chat template leaves out the start of the last message: give text instead")
    return begun if text[place + len(mark) :].startswith(" ") else begun.rstrip()


def render_prompt(tokenizer: Tokenizer, prompt: Messages) -> str:
    """Messages as text up to the start of the answer: inside the last one if that is the assistant's."""
    if prompt[-1]["role"] == "assistant":
        return render_continuation(tokenizer, prompt)
    return tokenizer.chat(prompt, True)


def conversation(prompt: Messages, answer: Messages) -> Messages:
    """A prompt and its answer, or the continuation of its last message."""
    *before, last = prompt
    if last["role"] != "assistant":
        return [*prompt, *answer]
    first, *others = answer
    return [*before, {**last, **first, "content": last["content"] + first["content"]}, *others]


def without_leading_answers(messages: Messages) -> Messages:
    """A conversation in which messages of the assistant before any question are not trained on."""
    first = next((place for place, one in enumerate(messages) if one["role"] != "assistant"), len(messages))
    return [*({**one, "weight": 0} for one in messages[:first]), *messages[first:]]


# ---- what the template is told besides messages


def with_record_context(tokenizer: Tokenizer, given: RawRecord) -> Tokenizer:
    """The tokenizer, with the record's `tools` and `chat_template_kwargs` for its chat template.

    Either may be JSON as text, as tables store data without fixed columns. Raises UserError for other values,
    and if the template would ignore them.
    """
    if not given.kind.conversational:
        return tokenizer
    without = with_template_variables(tokenizer, given.record.get(KWARGS))
    tools = without_nulls(_plain(given.record.get("tools"), "tools"))
    if not tools:
        return without
    if not (isinstance(tools, list) and all(isinstance(one, Mapping) for one in tools)):
        raise UserError('"tools" must be a list of objects, one for each function')
    found = replace(without, names={**without.names, "tools": tools})
    messages = given.record[given.kind.columns[0]]
    if found.chat(messages, False) == without.chat(messages, False):
        raise UserError('the chat template does not write "tools": use one that does, or remove the column')
    return found


def with_template_variables(tokenizer: Tokenizer, given: Any) -> Tokenizer:
    """The tokenizer, with these variables for its chat template: an object, JSON as text, or None.

    Raises UserError for other values, and for a name that the template does not read.
    """
    names = without_nulls(_plain(given, KWARGS))
    if not names:
        return tokenizer
    if not isinstance(names, Mapping):
        raise UserError(f'"{KWARGS}" is {describe_value(names)}: give an object that maps names to values')
    for name in names:
        if name in TAKEN:
            raise UserError(f'"{KWARGS}" has "{name}", which cannot be set there: leave it out')
        if not template_uses(tokenizer, name):
            raise UserError(f'the chat template does not read "{name}" of "{KWARGS}": leave it out')
    return replace(tokenizer, names={**tokenizer.names, **names})


def _plain(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f'"{name}" is text that is not JSON ({one_line(error)})') from error
