"""Records in the shapes that public data sets have, as this package's columns.

    {"conversations": [{"from", "value"}]}        ShareGPT: messages by other names
    {"chosen", "rejected"}                        what both begin with is the prompt
    {"prompt": text, "chosen", "rejected"}        UltraFeedback: whole conversations that repeat the prompt
    {"prompt", ...}                               answers that repeat the prompt

Nothing is guessed where a record could mean two things: it is refused, with what to write instead.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from proximo.errors import UserError
from proximo.language.text.data_files import Source, lines_of
from proximo.language.text.messages import normalise_messages
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.text.tokenizer_backend import encoding

TURN = "\n\nAssistant:"
"""Where an answer begins in texts of "Human:" and "Assistant:", as Anthropic's data have them."""


def with_messages(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """ShareGPT's `conversations` as `messages`."""
    if record.get("conversations") is None or record.get("messages") is not None:
        return record
    rest = {name: value for name, value in record.items() if name not in ("conversations", "messages")}
    return {"messages": record["conversations"], **rest}


def with_clean_messages(record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The record, and those of these columns that hold messages as templates are to have them."""
    talk = [name for name in columns if name != "text" and isinstance(record[name], list | tuple)]
    return {**record, **{name: normalise_messages(record[name], name) for name in talk}}


def with_prompt_of_answers(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whole conversations, one better than the other, as a prompt with two answers.

    Their prompt is what both begin with. A `prompt` that is text must be a message of it.

    Raises UserError where they begin with nothing in common, or with another prompt.
    """
    chosen, rejected, prompt = record["chosen"], record["rejected"], record.get("prompt")
    size = common_prefix(chosen, rejected)
    if size in (len(chosen), len(rejected)) and size:
        if len(chosen) == len(rejected):
            raise UserError('"chosen" and "rejected" are the same: remove the record')
        raise UserError('"chosen" and "rejected" differ in length alone: give both an answer of their own')
    if not size:
        raise UserError(
            '"chosen" and "rejected" begin with no message in common, which would be their prompt: give a '
            '"prompt" of messages'
        )
    common = chosen[:size]
    if isinstance(prompt, str) and prompt.strip() not in [one["content"].strip() for one in common]:
        raise UserError('"prompt" is text that is no message of both "chosen" and "rejected": leave it out')
    return {**record, "prompt": common, "chosen": chosen[size:], "rejected": rejected[size:]}


def without_prompt(record: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """Messages whose answers all repeat the prompt, without that."""
    size = len(record["prompt"])
    if not all(record[name][:size] == record["prompt"] and len(record[name]) > size for name in answers):
        return dict(record)
    return {**record, **{name: record[name][size:] for name in answers}}


def common_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many messages, or characters, two begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def texts_repeat_prompt(source: Source, answers: Sequence[str]) -> bool:
    """Whether in every record the answers, all texts, begin with the prompt.

    One alone may do so by chance, as "Hello" answers "Hello"; a file in which all do repeats them.
    """
    found = False
    for line in lines_of(source):
        texts = [line.record.get(name) for name in ("prompt", *answers)]
        prompt, *others = texts
        if not isinstance(prompt, str) or not prompt:
            return False
        if not all(
            isinstance(text, str) and text.startswith(prompt) and len(text) > len(prompt) for text in others
        ):
            return False
        found = True
    return found


def split_texts(tokenizer: Tokenizer, chosen: str, rejected: str) -> tuple[str, str, str]:
    """Two texts that begin alike as a prompt with two answers.

    The prompt ends behind the last "Assistant:" that both have; without one, behind the last token that both
    have, so that no token of an answer is cut in two.

    Raises UserError where they have no beginning in common.
    """
    size = common_prefix(chosen, rejected)
    place = chosen[:size].rfind(TURN)
    if place >= 0:
        size = place + len(TURN)
    else:
        size = _at_token(tokenizer, chosen, rejected, size)
    if not size:
        raise UserError(
            '"chosen" and "rejected" begin with no text in common, which would be their prompt: give "prompt"'
        )
    if size in (len(chosen), len(rejected)):
        raise UserError('"chosen" or "rejected" is nothing but what both begin with: remove the record')
    return chosen[:size], chosen[size:], rejected[size:]


def _at_token(tokenizer: Tokenizer, chosen: str, rejected: str, size: int) -> int:
    """Where the last token ends that both texts begin with, within the first `size` characters."""
    one, other = encoding(tokenizer.backend, chosen), encoding(tokenizer.backend, rejected)
    ends = [end for _, end in one.offsets[: common_prefix(one.ids, other.ids)]]
    return max((end for end in ends if end <= size), default=0)
