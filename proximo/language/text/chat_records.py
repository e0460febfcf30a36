"""Conversations of a record as a chat template writes them, held against what the record says.

A template is somebody else's program: it may leave out a message's text, its tool calls or its reasoning, and
it knows names besides messages. What the user wrote is written, named in a note, or refused.
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
"""What templates are told anyway, or by a column of its own."""
SURE = 16  # characters that stand in a rendering by no accident


def template_notes(tokenizer: Tokenizer, given: RawRecord) -> tuple[str, ...]:
    """What there is to note of how the chat template writes a record; nothing where that is text.

    Raises UserError for a message whose text or tool calls the template does not write. Whoever searches for
    the answers to learn (`conversations`) is stricter with these.
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

    It may leave parts of an earlier message out once there are later ones, as long as it writes them at all,
    and its reasoning: that is how the model will be prompted.
    """
    text = tokenizer.chat(messages, False)
    for index, message in enumerate(messages):
        for part, other in _altered_messages(message, text):
            later = messages[: index + 1], messages
            if all(_is_ignored(tokenizer, some, index, other) for some in later):
                raise UserError(
                    f'the chat template leaves out "{part}" of message {index + 1} ({message["role"]}): give '
                    "a template that writes it (--chat-template), or remove it"
                )


def _altered_messages(message: Message, text: str) -> Iterator[tuple[str, Message]]:
    """The parts of a message that a template may leave out, and for each the message with another one."""
    said = message["content"].rpartition("</think>")[2].strip()
    if said and not (len(said) >= SURE and said in text):
        yield "content", {**message, "content": f"{message['content']}x"}
    if message.get("tool_calls"):
        yield "tool_calls", {name: value for name, value in message.items() if name != "tool_calls"}


def _is_ignored(tokenizer: Tokenizer, messages: Messages, index: int, other: Message) -> bool:
    """Whether a conversation is written alike with another message in this place."""
    changed = [*messages[:index], other, *messages[index + 1 :]]
    try:
        return tokenizer.chat(changed, False) == tokenizer.chat(messages, False)
    except UserError:  # a template that objects has looked at it
        return False


def _unread(tokenizer: Tokenizer, messages: Messages) -> Iterator[str]:
    """Keys of messages that nothing reads, as something to note."""
    for name in dict.fromkeys(name for message in messages for name in message):
        if name not in HEARD and not template_uses(tokenizer, name):
            yield f'the chat template does not read "{name}" of messages'


def template_uses(tokenizer: Tokenizer, name: str) -> bool:
    """Whether the chat template has this name anywhere."""
    return re.search(rf"\b{re.escape(name)}\b", tokenizer.template or "") is not None


def render_continuation(tokenizer: Tokenizer, messages: Messages) -> str:
    """A conversation as text that ends inside its last message, for the model to go on with.

    As `continue_final_message` of transformers: where the template takes blanks off the end of a message,
    the text ends without them.
    """
    *before, last = messages
    mark = "to be continued"
    while any(mark in str(message) for message in messages):
        mark += "+"
    text = tokenizer.chat([*before, {**last, "content": f"{last['content']}{mark} "}], False)
    place = text.rfind(mark)
    begun = text[: max(place, 0)]
    if "".join(last["content"].split()) not in "".join(begun.split()):
        raise UserError("the chat template leaves out what the last message begins with: give text instead")
    return begun if text[place + len(mark) :].startswith(" ") else begun.rstrip()


def render_prompt(tokenizer: Tokenizer, prompt: Messages) -> str:
    """Messages as text up to where the answer begins: inside the last one where that is the assistant's."""
    if prompt[-1]["role"] == "assistant":
        return render_continuation(tokenizer, prompt)
    return tokenizer.chat(prompt, True)


def conversation(prompt: Messages, answer: Messages) -> Messages:
    """A prompt and what answers it, or goes on with its last message."""
    *before, last = prompt
    if last["role"] != "assistant":
        return [*prompt, *answer]
    first, *others = answer
    return [*before, {**last, **first, "content": last["content"] + first["content"]}, *others]


def without_leading_answers(messages: Messages) -> Messages:
    """A conversation whose first messages are not learned where the assistant wrote them, unasked."""
    first = next((place for place, one in enumerate(messages) if one["role"] != "assistant"), len(messages))
    return [*({**one, "weight": 0} for one in messages[:first]), *messages[first:]]


# ---- what the template is told besides messages


def with_record_context(tokenizer: Tokenizer, given: RawRecord) -> Tokenizer:
    """The tokenizer, whose chat template is told of the record's `tools` and `chat_template_kwargs`.

    Either may be JSON as text, as tables keep what has no fixed columns. Raises UserError for what is none of
    these, and where the template would pass it over.
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
        raise UserError('the chat template does not write "tools": take one that does, or remove the column')
    return found


def with_template_variables(tokenizer: Tokenizer, given: Any) -> Tokenizer:
    """The tokenizer, whose chat template is told of these names: an object, or JSON as text, or None.

    Raises UserError for anything else, and for a name that the template does not read.
    """
    names = without_nulls(_plain(given, KWARGS))
    if not names:
        return tokenizer
    if not isinstance(names, Mapping):
        raise UserError(f'"{KWARGS}" is {describe_value(names)}: give an object, a value for each name')
    for name in names:
        if name in TAKEN:
            raise UserError(f'"{KWARGS}" has "{name}", which is not for it: leave it out')
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
