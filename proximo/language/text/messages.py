"""Messages of conversations: from the form in files to the form that chat templates get.

Null keys are absent, content in text parts becomes one text, and `weight` decides whether a message counts in
the loss. Content that a text model cannot read, such as images, is refused.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from proximo.errors import UserError

Message: TypeAlias = Mapping[str, Any]

LOSS = ("weight", "train", "trainable", "loss_mask", "loss")
"""Keys that decide whether a message counts in the loss: 0 or false for no, 1 or true for as usual."""
UNSEEN = ("images", "image", "videos", "video", "audios", "audio")
"""Content that a text model cannot read."""
OTHERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant"}
OTHERS |= {name: name for name in ("user", "assistant", "system", "tool")}
"""Roles in ShareGPT and similar formats."""


def without_nulls(value: Any) -> Any:
    """The same without null keys, at any depth: tables fill them in for missing values."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def normalise_messages(messages: Sequence[Any], name: str) -> list[dict[str, Any]]:
    """The messages of a column in the form that templates get.

    Raises UserError for anything that is no message, and for content that would be ignored.
    """
    if not messages:
        raise UserError(f'"{name}" has no message: fill it, or remove the record')
    return [_cleaned(one, f'message {number} of "{name}"') for number, one in enumerate(messages, 1)]


def _cleaned(given: Any, name: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f'{name} is {describe_value(given)}: give an object with "role" and "content"')
    message = _renamed(without_nulls(given), name)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise UserError(f'{name} has no "role": give "system", "user" or "assistant"')
    if seen := next((key for key in UNSEEN if message.get(key)), None):
        raise UserError(f'{name} has "{seen}", and this is a model of texts: remove the record')
    if "function_call" in message:
        raise UserError(f'{name} has a "function_call": write it as "tool_calls", a list')
    calls = message.get("tool_calls")
    if content is None and calls:
        content = ""  # who calls a tool may say nothing; templates would write the word None
    if not isinstance(content, str):
        content = _text_of(content, name)
    if role == "assistant" and not content and not calls:
        raise UserError(f'"content" of {name} is empty: fill it, or remove the record')
    weight = {} if _carries_loss(message, name) else {"weight": 0}
    return {key: value for key, value in message.items() if key not in LOSS} | {"content": content} | weight


def _renamed(message: dict[str, Any], name: str) -> dict[str, Any]:
    """A message in ShareGPT's format, {"from", "value"}, with the keys that templates read."""
    if "from" not in message or "role" in message:
        return message
    speaker = message.pop("from")
    if speaker not in OTHERS:
        raise UserError(f'"from" of {name} is {speaker!r}: take one of {", ".join(OTHERS)}, or give "role"')
    value = {"content": message.pop("value")} if "value" in message else {}
    return {"role": OTHERS[speaker], **value, **message}


def _text_of(content: Any, name: str) -> str:
    """The text of a message whose content is a list of parts."""
    if not isinstance(content, list | tuple):
        raise UserError(f'"content" of {name} is {describe_value(content)}: give text')
    texts = []
    for number, part in enumerate(content, 1):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise UserError(
                f'part {number} of "content" of {name} is {f"of type {kind}" if kind else "untyped"}: '
                'only {"type": "text", "text": ...} is supported'
            )
        texts.append(part["text"])
    return "".join(texts)


def _carries_loss(message: Message, name: str) -> bool:
    """Whether a message counts in the loss, by its own keys."""
    said = {key: message[key] for key in LOSS if key in message}
    for key, value in said.items():
        if value not in (0, 1) or not isinstance(value, int | float):
            raise UserError(f'"{key}" of {name} is {value!r}: give 0 (no loss) or 1 (as usual)')
        if value == 1 and message["role"] != "assistant":
            raise UserError(
                f'"{key}" of {name} is {value!r}, but only the "assistant" is trained on: remove the key, or '
                "train on everything (completion_only false) without weights"
            )
    if len(set(said.values())) > 1:
        raise UserError(f"{name} has {' and '.join(said)}, which contradict each other: keep one of them")
    return 0 not in said.values()


def carries_loss(message: Message) -> bool:
    """Whether a message is trained on: the assistant's, unless its `weight` is 0."""
    return message["role"] == "assistant" and message.get("weight") != 0


def common_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The number of messages, or characters, at the start that two have in common."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def describe_value(value: Any) -> str:
    """A value's type, for an error message."""
    return "missing" if value is None else f"of type {type(value).__name__}"
