"""The Rust tokenizer of the `tokenizers` library: special tokens, ids, and errors as UserErrors."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, models
from tokenizers.pre_tokenizers import ByteLevel, Sequence

from proximo.errors import UserError
from proximo.language.text.templates import one_line

PREFIXED = rb'"type":"Prepend"|"prepend_scheme":"(always|first)"|"add_prefix_space":true'
"""Parts of the library's tokenizer that add a space before a text."""

GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes of `transformers` that take `add_prefix_space` from `tokenizer.json` alone."""

PADDING = (r"^\W*pad(ding)?\W*$|right_pad", r"reserved|unused|dummy", r"^\W*unk(nown)?\W*$", r"pad")
"""Names of special tokens that may be used as PAD, the best first."""


def add_tokens(
    backend: tokenizers.Tokenizer,
    named: Collection[str],
    described: Iterable[AddedToken] = (),
    special: Iterable[AddedToken] = (),
) -> list[str]:
    """Applies special tokens as `transformers` does on loading, but adds no token to the vocabulary.

    named      BOS, EOS and similar tokens: they become special, and otherwise stay as they are
    described  tokens with their new properties
    special    tokens that become special; of two equal ones the first counts
    returns    tokens that the vocabulary does not have
    """
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    wanted = {token.content: token for token in reversed([*special]) if token.content not in known}
    wanted |= {token.content: token for token in described}
    for content in named:
        token = wanted.get(content) or known.get(content) or AddedToken(content, special=True)
        how = {name: getattr(token, name) for name in ("lstrip", "rstrip", "single_word", "normalized")}
        wanted[content] = AddedToken(content, special=True, **how)
    for content, token in wanted.items():
        if backend.token_to_id(content) is not None and repr(token) != repr(known.get(content)):
            backend.add_tokens([token])
    return [content for content in wanted if backend.token_to_id(content) is None]


def hear_settings(backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> list[str]:
    """Applies `tokenizer_config.json` as `transformers` does; returns notes for the user."""
    notes, wanted = [], settings.get("add_prefix_space")
    if wanted is not None and not _hears_prefix_space(backend, bool(wanted), settings.get("tokenizer_class")):
        notes.append(
            f"tokenizer_config.json says add_prefix_space = {json.dumps(bool(wanted))}, tokenizer.json the "
            "opposite: tokenizer.json is used"
        )
    if settings.get("split_special_tokens"):
        backend.encode_special_tokens = True
        notes.append(
            "tokenizer_config.json says split_special_tokens: special tokens that a text spells out, or "
            "that the chat template writes, are split like any other text"
        )
    return notes


def _hears_prefix_space(backend: tokenizers.Tokenizer, wanted: bool, kind: Any) -> bool:
    """Whether the space before a text is as wanted, once it is set where `transformers` sets it."""
    byte_level = [part for part in _parts(backend.pre_tokenizer) if isinstance(part, ByteLevel)]
    if byte_level and kind not in GENERIC:
        for part in byte_level:
            part.add_prefix_space = wanted
        return True
    stated = [part for part in (backend.normalizer, backend.pre_tokenizer) if part is not None]
    return bool(re.search(PREFIXED, b"".join(part.__getstate__() for part in stated))) == wanted


def _parts(part: Any) -> Iterator[Any]:
    """A pre-tokenizer's parts, or the pre-tokenizer itself if it has none."""
    if not isinstance(part, Sequence):
        yield part
        return
    for inner in part:  # type: ignore[attr-defined]  # by its __getitem__
        yield from _parts(inner)


def special_tokens(backend: tokenizers.Tokenizer) -> dict[int, str]:
    """id -> token, for all tokens that `decode` skips."""
    return {id: token.content for id, token in backend.get_added_tokens_decoder().items() if token.special}


def choose_eos(
    backend: tokenizers.Tokenizer, given: str | None, named: str | None, listed: Iterable[int]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The end tokens of a response, and notes for the user.

    given    the user's EOS, which comes first
    named    the folder's, first if the user gives none
    listed   further ids that end the model's generation; ids without a token are ignored

    Raises UserError if `given` is not in the vocabulary.
    """
    known = [id for id in listed if backend.id_to_token(id) is not None]
    first = named if given is None else given
    if first is not None:
        return tuple(dict.fromkeys([id_of(backend, first), *known])), ()
    return tuple(dict.fromkeys(known)), tuple(
        f"no EOS is named: {token_of(backend, id)!r} ({id}), which ends the model's generation, is used"
        for id in known[:1]
    )


def choose_pad(
    backend: tokenizers.Tokenizer,
    given: str | None,
    named: str | None,
    eos_ids: tuple[int, ...],
    bos_id: int | None,
) -> tuple[int, tuple[str, ...]]:
    """PAD, and notes for the user.

    given    the user's choice; used unless it ends responses
    named    the folder's choice; used unless it ends responses
    eos_ids  the end tokens of a response
    bos_id   used as PAD if no special token is left

    Raises UserError if `given` ends responses, or is not in the vocabulary.
    """
    if given is not None and id_of(backend, given) in eos_ids:
        raise UserError(f"{given!r} ends responses and cannot also be PAD: give another token (pad_token)")
    for token in (given, named):
        if token is not None and (id := id_of(backend, token)) not in eos_ids:
            return id, ()
    why = "no PAD is named" if named is None else f"the named PAD, {named!r}, ends responses"
    special = sorted(special_tokens(backend).items())
    free = [(id, token) for id, token in special if id not in (*eos_ids, bos_id)]
    fitting = [id for called in PADDING for id, token in free if re.search(called, token, re.IGNORECASE)]
    fitting += [bos_id] if bos_id is not None and bos_id not in eos_ids else []
    if fitting:
        return fitting[0], (f"{why}: {token_of(backend, fitting[0])!r} ({fitting[0]}) is used",)
    ids = sorted(backend.get_vocab().values())
    any_id = next((id for id in ids if id not in eos_ids), eos_ids[0])
    return any_id, (
        f"{why}, and no token is free for it: {token_of(backend, any_id)!r} ({any_id}) is used; masks come "
        "from lengths, so this is harmless",
    )


def id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    """The id of a token. Raises UserError if there is none."""
    id = backend.token_to_id(token)
    if id is None:
        raise UserError(f"{token!r} is not a token of the vocabulary: give one that is")
    return int(id)


def token_of(backend: tokenizers.Tokenizer, id: int) -> str | None:
    """The token with this id, as it occurs in texts (the library returns added tokens normalised)."""
    added = backend.get_added_tokens_decoder().get(id)
    token = backend.id_to_token(id) if added is None else added.content
    return None if token is None else str(token)


def encoding(backend: tokenizers.Tokenizer, text: str, special: bool = False) -> tokenizers.Encoding:
    """The ids of a text and their positions. Raises UserError for a text that cannot be encoded."""
    try:
        return backend.encode(text, add_special_tokens=special)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        raise UserError(f"this text cannot be encoded: {_reason(backend, text, error)}") from error


def _reason(backend: tokenizers.Tokenizer, text: str, error: BaseException) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as wrong:
        return f"character {wrong.start + 1} is half of a surrogate pair"
    if isinstance(backend.model, models.WordLevel) and backend.pre_tokenizer is not None:
        added = [re.escape(token.content) for token in backend.get_added_tokens_decoder().values()]
        for part in re.split("|".join(added), text):
            for piece, _ in backend.pre_tokenizer.pre_tokenize_str(part):
                if backend.token_to_id(piece) is None:
                    return f"{piece!r} is not in the vocabulary"
    return one_line(error)
