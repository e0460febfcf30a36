"""Finds each answer of the assistant in a conversation that a chat template has written.

The template's own marks have priority: `{% generation %} ... {% endgeneration %}` encloses what the assistant
writes. Without marks, an answer lies between two prefixes of the conversation: the prompt of the answer, and
the prefix that ends with it. Some templates write earlier messages differently once later ones follow, for
example without their reasoning. Then a character is inserted temporarily, to see where an answer's text
begins and ends.

If the template leaves out something that the assistant wrote, the conversation is refused. Otherwise nobody
would notice that it is never trained on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from proximo.errors import UserError
from proximo.language.text.messages import carries_loss, common_prefix
from proximo.language.text.templates import ChatTemplate, Messages

Span: TypeAlias = tuple[int, int]
"""Characters of a text, from the first to the one behind the last."""

Cut: TypeAlias = tuple[int, bool]
"""Where a piece of a text ends, and whether it is trained on."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which its reasoning is found."""

PLACE = "\ufdd2"
"""A code point that is no character, for no text to have it."""


def conversation(
    chat: ChatTemplate, messages: Messages, start: int = 0, ends: Sequence[str] = ()
) -> tuple[str, list[Cut]]:
    """Messages as one text, cut where each answer of the assistant that is trained on begins and ends.

    start  messages before this one are a prompt, whoever wrote them; the text is cut at its end too
    ends   special tokens, one of which may end an answer

    Raises UserError if an answer cannot be found, or if the template leaves out part of one.
    """
    theirs = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    learned = [index for index in theirs if index >= start and carries_loss(messages[index])]
    found = chat.render_marked(messages)
    if found is None:
        written = _Written(chat, messages, chat.text(messages, False), ends)
        return written.text, _cuts(written.text, written.spans(learned), None)
    text, spans = found
    written, one_each = _Written(chat, messages, text, ends), len(spans) == len(theirs)
    for index in learned:
        end = spans[theirs.index(index)][1] if one_each else len(text)
        written.check(index, written.end_of_earlier(index), end)
    prompt = written.part(messages[:start], True) if start else None
    border = len(prompt) if prompt is not None and text.startswith(prompt) else None
    if one_each:
        spans = [span for index, span in zip(theirs, spans, strict=True) if index in learned]
    elif silent := [index for index in theirs if index >= start and index not in learned]:
        raise _cannot_split(silent[0])
    elif start and border is None:
        border = written.begin(start, 0)
        if border is None:
            raise _cannot_split(start)
    if border is not None:  # some mark what prompts for an answer as well
        spans = [(max(begin, border), end) for begin, end in spans if end > border]
    if learned and not spans:
        raise UserError(
            "the chat template marks nothing as the assistant's: use one that does (--chat-template)"
        )
    return text, _cuts(text, spans, border)


def _cuts(text: str, spans: Sequence[Span], border: int | None) -> list[Cut]:
    """A whole text in pieces; `border` is the end of the prompt, before every answer."""
    cuts = [(border, False)] if border and spans else []
    cuts += [cut for begin, end in spans for cut in ((begin, False), (end, True))]
    return [*cuts, (len(text), False)]


def render_checked(chat: ChatTemplate, messages: Messages) -> str:
    """Messages as one text. Raises UserError if something that the assistant wrote is missing."""
    written = _Written(chat, messages, chat.text(messages, False), ())
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            written.check(index, written.end_of_earlier(index))
    return written.text


def answer_affixes(chat: ChatTemplate) -> tuple[str, str]:
    """What the template ends a prompt with although no given answer has it, and what it ends an answer with.

    Raises UserError if the template fails on a question and an answer, or writes no answer.
    """
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PLACE}]
    prompt = chat.text(talk[:1], True)
    before, place, behind = chat.text(talk, False).partition(PLACE)
    if not place:
        raise UserError("the chat template writes nothing for the assistant")
    return prompt[common_prefix(prompt, before) :], behind


@dataclass(frozen=True)
class _Written:
    """Messages, their text as the template writes it, and special tokens that may end an answer."""

    chat: ChatTemplate
    messages: Messages
    text: str
    ends: Sequence[str]

    def part(self, messages: Messages, generation_prompt: bool) -> str | None:
        """A part of the conversation as text; None if the template fails on it or refuses it."""
        try:
            return self.chat.text(messages, generation_prompt)
        except UserError:
            return None

    def spans(self, learned: Sequence[int]) -> list[Span]:
        """The places of these answers."""
        spans: list[Span] = []
        for index in learned:
            floor = spans[-1][1] if spans else 0
            begin, end = self.begin(index, floor), self.end(index)
            if begin is None or end is None or not floor <= begin <= end:
                self.check(index)  # the likeliest reason
                raise _cannot_split(index)
            spans.append((begin, end))
        for index, (begin, end) in zip(learned, spans, strict=True):
            self.check(index, begin, end)
        return spans

    def check(self, index: int, begin: int = 0, end: int | None = None) -> None:
        """Raises UserError unless all of a message's content is in the text before an end; spaces may differ.

        begin  start of its answer; content may begin before it (`<think>`, in some prompts), but not end
               before it
        """
        for name, part in _message_parts(self.messages[index]):
            if _ends_behind(part, self.text[:end], begin):
                continue
            shown = part if len(part) <= 40 else f"{part[:40]}..."
            found = f"the chat template leaves out {name} of message {index + 1}, {shown!r}"
            before, alone = (self.part(self.messages[:size], False) or "" for size in (index, index + 1))
            last = index + 1 == len(self.messages)
            if not last and alone.startswith(before) and _ends_behind(part, alone, len(before)):
                raise UserError(
                    f"{found}, if messages follow: give each answer its own record, with the "
                    "messages before it as prompt and itself as completion"
                )
            raise UserError(f"{found}: use a template that writes it (--chat-template), or remove it")

    def begin(self, index: int, floor: int) -> int | None:
        """Where an answer begins: after its prompt, or else where its own text begins.

        floor  end of the previous answer
        """
        earlier = self.messages[:index]
        prompted = self.part(earlier, True)
        if prompted is not None and self.text.startswith(prompted):
            return len(prompted)
        before = self.part(earlier, False)
        places = self.places(index, first=True)
        limit = min((place for place, _ in places or self.places(index)), default=None)
        if limit is None:
            return None
        floor = max(floor, self.end_of_earlier(index))
        if prompted and before is not None and prompted.startswith(before):
            for asks in _beginnings(prompted[len(before) :], self.ends):
                found = self.text.find(asks, floor, limit)
                if found >= 0:
                    return found + len(asks)
        calls = self.messages[index].get("tool_calls")
        own = [place for place, marked in places if marked.get("tool_calls") == calls]
        return min(own, default=None)  # the name of a tool is not the first that its call has

    def end(self, index: int) -> int | None:
        """Where an answer ends, including what the template writes after it when no message follows."""
        last = self.part(self.messages[: index + 1], False)
        if last is not None and self.text.startswith(last):
            return len(last)
        found = max(self.places(index), key=lambda one: one[0], default=None)
        if found is None:
            return None
        place, marked = found
        rest, last = self.text[place:], self.part([*self.messages[:index], marked], False)
        if last is not None and last.count(PLACE) == 1:
            behind = last.partition(PLACE)[2]
            if rest.startswith(behind):
                return place + len(behind)
        if self.messages[index].get("tool_calls"):
            return None
        blanks = len(rest) - len(rest.lstrip())
        token = max((end for end in self.ends if rest[blanks:].startswith(end)), key=len, default="")
        return place + (blanks + len(token) if token else 0)

    def end_of_earlier(self, index: int) -> int:
        """Where the message before this one ends; 0 if unknown."""
        return max((place for place, _ in self.places(index - 1)), default=0) if index else 0

    def places(self, index: int, first: bool = False) -> list[tuple[int, Mapping[str, Any]]]:
        """Where the parts of a message end (or begin: `first`) in the text, and the message with each place.

        A part is skipped if a character inserted there changes anything else, or vanishes.
        """
        found = []
        for marked in _with_place(self.messages[index], first):
            changed = self.part([*self.messages[:index], marked, *self.messages[index + 1 :]], False) or ""
            before, _, after = changed.partition(PLACE)
            blanks = len(self.text) - len(before) - len(after)  # those around its text, which were taken off
            same = self.text.startswith(before) and self.text.endswith(after)
            if changed.count(PLACE) != 1 or not same or blanks < 0:
                continue
            if not self.text[len(before) : len(before) + blanks].strip():
                found.append((len(before) if first else len(before) + blanks, marked))
        return found


def _ends_behind(part: str, text: str, begin: int) -> bool:
    """Whether a text has this part, ignoring spaces, and its last one does not end before a place."""
    written, part, before = ("".join(one.split()) for one in (text, part, text[:begin]))
    place = written.rfind(part)
    return place >= 0 and place + len(part) > len(before)


def _message_parts(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All content of a message, by the name of its key."""
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


def _with_place(message: Mapping[str, Any], first: bool) -> Iterator[Mapping[str, Any]]:
    """The message with a mark before (or after) each of its texts."""

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


def _beginnings(text: str, tokens: Sequence[str]) -> list[str]:
    """A text, and all of its prefixes that end with a line or a special token, the longest first."""
    ends = {found.end() for token in ("\n", *tokens) for found in re.finditer(re.escape(token), text)}
    return [text[:end] for end in sorted({*ends, len(text)} - {0}, reverse=True)]


def _cannot_split(index: int) -> UserError:
    return UserError(
        f"where message {index + 1} stands in what the chat template writes cannot be told: give prompt and "
        "completion as text, or a template that marks what the assistant writes with {% generation %} and "
        "{% endgeneration %} (--chat-template)"
    )
