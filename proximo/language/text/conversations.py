"""Where in a conversation, as a chat template writes it, each answer of the assistant stands.

What the template says itself counts most: `{% generation %} ... {% endgeneration %}` marks what the assistant
writes. Without marks an answer stands between two beginnings of the conversation: what a model is prompted
with, and what ends with the answer. Some templates write earlier messages differently once there are later
ones (without their reasoning, say): there a character that is put in for a moment shows where an answer's
text begins and where it ends.

A conversation of which the template leaves something out that the assistant wrote is refused: nobody would
see that it is never learned.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from proximo.errors import UserError
from proximo.language.text.messages import carries_loss
from proximo.language.text.templates import ChatTemplate, Messages

Span: TypeAlias = tuple[int, int]
"""Characters of a text, from the first to the one behind the last."""

Cut: TypeAlias = tuple[int, bool]
"""Where a piece of a text ends, and whether the piece is to be learned."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which its reasoning is found."""

PLACE = "\ufdd2"
"""A code point that is no character, for no text to have it."""


def conversation(
    chat: ChatTemplate, messages: Messages, start: int = 0, ends: Sequence[str] = ()
) -> tuple[str, list[Cut]]:
    """Messages as one text, cut where an answer of the assistant that is to be learned begins or ends.

    start  messages before this one are a prompt, whoever wrote them; the text is cut where it ends, too
    ends   special tokens, one of which may end an answer

    Raises UserError where an answer is not to be found, and where the template does not write all of one.
    """
    theirs = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    learned = [index for index in theirs if index >= start and carries_loss(messages[index])]
    found = chat.render_marked(messages)
    if found is None:
        text = chat.text(messages, False)
        return text, _cuts(text, _searched(chat, text, messages, learned, ends), None)
    text, spans = found
    one_each = len(spans) == len(theirs)
    for index in learned:
        end = spans[theirs.index(index)][1] if one_each else len(text)
        check_all_rendered(chat, text[:end], messages, index, _end_of_earlier(chat, text, messages, index))
    prompt = _try_render(chat, messages[:start], True) if start else None
    border = len(prompt) if prompt is not None and text.startswith(prompt) else None
    if one_each:
        spans = [span for index, span in zip(theirs, spans, strict=True) if index in learned]
    elif silent := [index for index in theirs if index >= start and index not in learned]:
        raise _cannot_split(silent[0])
    elif start and border is None:
        border = _begin(chat, text, messages, start, 0, ends)
        if border is None:
            raise _cannot_split(start)
    if border is not None:  # some mark what prompts for an answer as well
        spans = [(max(begin, border), end) for begin, end in spans if end > border]
    if learned and not spans:
        raise UserError(
            "the chat template marks nothing as the assistant's: give one that does (--chat-template)"
        )
    return text, _cuts(text, spans, border)


def _cuts(text: str, spans: Sequence[Span], border: int | None) -> list[Cut]:
    """All of a text in pieces; `border` is where a prompt ends, before every answer."""
    cuts = [(border, False)] if border and spans else []
    cuts += [cut for begin, end in spans for cut in ((begin, False), (end, True))]
    return [*cuts, (len(text), False)]


def _searched(
    chat: ChatTemplate, text: str, messages: Messages, learned: Sequence[int], ends: Sequence[str]
) -> list[Span]:
    """Where these answers stand in a text without marks."""
    spans: list[Span] = []
    for index in learned:
        floor = spans[-1][1] if spans else 0
        begin = _begin(chat, text, messages, index, floor, ends)
        end = _end(chat, text, messages, index, ends)
        if begin is None or end is None or not floor <= begin <= end:
            check_all_rendered(chat, text, messages, index)  # the likeliest reason
            raise _cannot_split(index)
        spans.append((begin, end))
    for index, (begin, end) in zip(learned, spans, strict=True):
        check_all_rendered(chat, text[:end], messages, index, begin)
    return spans


def render_checked(chat: ChatTemplate, messages: Messages) -> str:
    """Messages as one text. Raises UserError where something that the assistant wrote is not in it."""
    text = chat.text(messages, False)
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            check_all_rendered(chat, text, messages, index, _end_of_earlier(chat, text, messages, index))
    return text


def answer_affixes(chat: ChatTemplate) -> tuple[str, str]:
    """What the template ends a prompt with though no given answer has it, and what it ends an answer with.

    Raises UserError where the template fails on a question and an answer, or writes no answer.
    """
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PLACE}]
    prompt, text = chat.text(talk[:1], True), chat.text(talk, False)
    before, place, behind = text.partition(PLACE)
    if not place:
        raise UserError("the chat template writes nothing for the assistant")
    same = next((at for at in range(len(prompt)) if not before.startswith(prompt[: at + 1])), len(prompt))
    return prompt[same:], behind


def check_all_rendered(chat: ChatTemplate, text: str, messages: Messages, index: int, begin: int = 0) -> None:
    """Raises UserError unless all that a message says is in this text; blanks may differ.

    begin  where its answer begins; what a message says may begin before it (`<think>`, in some prompts), but
           not end there
    """
    for name, part in _message_parts(messages[index]):
        if _ends_behind(part, text, begin):
            continue
        shown = part if len(part) <= 40 else f"{part[:40]}..."
        found = f"the chat template leaves out {name} of message {index + 1}, {shown!r}"
        before, alone = (_try_render(chat, messages[:size], False) or "" for size in (index, index + 1))
        if index + 1 < len(messages) and alone.startswith(before) and _ends_behind(part, alone, len(before)):
            raise UserError(
                f"{found}, where messages follow: give each answer a record of its own, with the messages "
                "before it as prompt and itself as completion"
            )
        raise UserError(f"{found}: give a template that writes it (--chat-template), or remove it")


def _ends_behind(part: str, text: str, begin: int) -> bool:
    """Whether a text has this part, blanks aside, and its last one does not end before a place."""
    written, part = _without_blanks(text), _without_blanks(part)
    place = written.rfind(part)
    return place >= 0 and place + len(part) > len(_without_blanks(text[:begin]))


def _message_parts(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything that a message says, by the name of what holds it."""
    for key in (*REASONING, "content"):
        value = message.get(key)
        parts = value if isinstance(value, list | tuple) else [{"text": value}]
        for part in parts:
            text = part.get("text") if isinstance(part, Mapping) else None
            if isinstance(text, str) and text.strip():
                yield f'"{key}"', text
    for call in message.get("tool_calls") or ():
        function = _function(call)
        if isinstance(function.get("name"), str):
            yield "a tool call", function["name"]
        if isinstance(arguments := function.get("arguments"), Mapping):
            yield from (("an argument of a tool call", str(name)) for name in arguments)


def _function(call: Any) -> Mapping[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}


def _begin(
    chat: ChatTemplate, text: str, messages: Messages, index: int, floor: int, ends: Sequence[str]
) -> int | None:
    """Where an answer begins: behind what prompts for it, or else where its own text begins.

    floor  where the answer before it ends
    """
    prompted, before = _try_render(chat, messages[:index], True), _try_render(chat, messages[:index], False)
    if prompted is not None and text.startswith(prompted):
        return len(prompted)
    places = _places(chat, text, messages, index, first=True)
    limit = min((place for place, _ in places or _places(chat, text, messages, index)), default=None)
    if limit is None:
        return None
    floor = max(floor, _end_of_earlier(chat, text, messages, index))
    if prompted and before is not None and prompted.startswith(before):
        for asks in _beginnings(prompted[len(before) :], ends):
            found = text.find(asks, floor, limit)
            if found >= 0:
                return found + len(asks)
    own = [place for place, marked in places if marked.get("tool_calls") == messages[index].get("tool_calls")]
    return min(own, default=None)  # the name of a tool is not the first that its call has


def _end_of_earlier(chat: ChatTemplate, text: str, messages: Messages, index: int) -> int:
    """Where the message before this one ends, which may say anything; 0 where it cannot be told."""
    places = _places(chat, text, messages, index - 1) if index else []
    return max((place for place, _ in places), default=0)


def _beginnings(text: str, tokens: Sequence[str]) -> list[str]:
    """A text, and all of its beginnings that end with a line or a special token, the longest first."""
    ends = {place + 1 for place, symbol in enumerate(text) if symbol == "\n"}
    ends |= {found.end() for token in tokens for found in re.finditer(re.escape(token), text)}
    return [text[:end] for end in sorted({*ends, len(text)} - {0}, reverse=True)]


def _end(chat: ChatTemplate, text: str, messages: Messages, index: int, ends: Sequence[str]) -> int | None:
    """Where an answer ends, with what the template writes behind it as long as no message follows."""
    last = _try_render(chat, messages[: index + 1], False)
    if last is not None and text.startswith(last):
        return len(last)
    found = max(_places(chat, text, messages, index), key=lambda one: one[0], default=None)
    if found is None:
        return None
    place, marked = found
    rest, last = text[place:], _try_render(chat, [*messages[:index], marked], False)
    if last is not None and last.count(PLACE) == 1:
        written = last[last.index(PLACE) + 1 :]
        if rest.startswith(written):
            return place + len(written)
    if messages[index].get("tool_calls"):
        return None
    blanks = len(rest) - len(rest.lstrip())
    token = max((end for end in ends if rest[blanks:].startswith(end)), key=len, default="")
    return place + (blanks + len(token) if token else 0)


def _places(
    chat: ChatTemplate, text: str, messages: Messages, index: int, first: bool = False
) -> list[tuple[int, Mapping[str, Any]]]:
    """Where the parts of a message end (or begin: `first`) in the text, and the message with each place.

    A part is left out where a character put in there changes anything else, or vanishes.
    """
    found = []
    for marked in _with_place(messages[index], first):
        changed = _try_render(chat, [*messages[:index], marked, *messages[index + 1 :]], False)
        if changed is None or changed.count(PLACE) != 1:
            continue
        place = changed.index(PLACE)
        before, after = changed[:place], changed[place + 1 :]
        blanks = len(text) - len(before) - len(after)  # those around a message's text, which were taken off
        if not (text.startswith(before) and text.endswith(after) and blanks >= 0):
            continue
        if not text[place : place + blanks].strip():
            found.append((place if first else place + blanks, marked))
    return found


def _with_place(message: Mapping[str, Any], first: bool) -> Iterator[Mapping[str, Any]]:
    """The message with a place before (or behind) each of its texts."""

    def put(text: str) -> str:
        return PLACE + text.lstrip() if first else text.rstrip() + PLACE

    for key in (*REASONING, "content"):
        if isinstance(message.get(key), str) and message[key].strip():
            yield {**message, key: put(message[key])}
    calls = message.get("tool_calls") or ()
    for number, call in enumerate(calls):
        function = _function(call)
        if isinstance(function.get("name"), str):
            named = {**function, "name": put(function["name"])}
            other = {**call, "function": named} if "function" in call else named
            yield {**message, "tool_calls": [*calls[:number], other, *calls[number + 1 :]]}


def _try_render(chat: ChatTemplate, messages: Messages, generation_prompt: bool) -> str | None:
    """A part of a conversation as text; None where the template fails on it, or refuses it."""
    try:
        return chat.text(messages, generation_prompt)
    except UserError:
        return None


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _cannot_split(index: int) -> UserError:
    return UserError(
        f"where message {index + 1} stands in what the chat template writes cannot be told: give prompt and "
        "completion as text, or a template that marks what the assistant writes with {% generation %} and "
        "{% endgeneration %} (--chat-template)"
    )
