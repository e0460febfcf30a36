"""The Rust tokenizer of the `tokenizers` library: reading it, its special tokens, its errors in our words."""

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models
from tokenizers.pre_tokenizers import ByteLevel, Sequence

from proximo.errors import UserError
from proximo.language.text.templates import one_line
from proximo.language.text.tokenizer_files import padding, read_text

PREFIXED = rb'"type":"Prepend"|"prepend_scheme":"(always|first)"|"add_prefix_space":true'
"""What puts a blank before a text, as the library writes its parts."""


def read_backend(place: Path) -> tokenizers.Tokenizer:
    """The tokenizer of `tokenizer.json`. Raises UserError if it is missing or not one."""
    text = read_text(place)
    if text is None:
        raise UserError(
            f"{place} is missing: save the tokenizer in this format once (transformers' save_pretrained)"
        )
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's own are plain Exceptions, but a panic of Rust is none
        raise UserError(f"{place} is not a tokenizer ({one_line(error)}): restore it from a copy") from error
    backend.no_truncation()  # a file can carry a length, beyond which texts would be cut without a word
    backend.no_padding()
    return backend


def add_tokens(
    backend: tokenizers.Tokenizer,
    named: Collection[str],
    described: Iterable[AddedToken] = (),
    special: Iterable[AddedToken] = (),
) -> list[str]:
    """As `transformers` does on loading; but a token that the vocabulary does not have is not added.

    named      BOS, EOS, and their like: special from now on, and as they were in all else
    described  tokens as they are from now on
    special    tokens to add where they are text like any other; of two alike the first counts
    returns    those that the vocabulary does not have
    """
    described, special = [*described], [*special]
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    wanted = {token.content: token for token in reversed(special) if token.content not in known}
    wanted |= {token.content: token for token in described}
    for content in named:
        token = wanted.get(content) or known.get(content)
        if token is None:
            wanted[content] = AddedToken(content, special=True)
        elif not token.special:
            wanted[content] = _made_special(token)
    for content, token in wanted.items():
        if backend.token_to_id(content) is not None and repr(token) != repr(known.get(content)):
            backend.add_tokens([token])
    return [content for content in wanted if backend.token_to_id(content) is None]


def _made_special(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        single_word=token.single_word,
        normalized=token.normalized,
        special=True,
    )


def set_add_prefix_space(backend: tokenizers.Tokenizer, wanted: bool, generic: bool) -> tuple[str, ...]:
    """Hears `add_prefix_space` of tokenizer_config.json as `transformers` does, or says in a note that not.

    generic  whether the tokenizer's class goes by `tokenizer.json` alone
    """
    byte_level = [part for part in _parts(backend.pre_tokenizer) if isinstance(part, ByteLevel)]
    if byte_level and not generic:
        for part in byte_level:
            part.add_prefix_space = wanted
        return ()
    stated = [part for part in (backend.normalizer, backend.pre_tokenizer) if part is not None]
    state = b"".join(part.__getstate__() for part in stated)
    if bool(re.search(PREFIXED, state)) == wanted:
        return ()
    return (
        f"tokenizer_config.json says add_prefix_space = {json.dumps(wanted)}, tokenizer.json the opposite: "
        "tokenizer.json counts",
    )


def _parts(sequence: Any) -> Iterator[Any]:
    """A pre-tokenizer's parts, or itself where it is none of several."""
    if not isinstance(sequence, Sequence):
        yield sequence
        return
    for index in itertools.count():
        try:
            part = sequence[index]
        except IndexError:  # the library gives no length
            return
        yield from _parts(part)


def special_tokens(backend: tokenizers.Tokenizer) -> dict[int, str]:
    """id -> token, for all that `decode` leaves out."""
    return {id: token.content for id, token in backend.get_added_tokens_decoder().items() if token.special}


def choose_eos(
    backend: tokenizers.Tokenizer, given: str | None, named: str | None, listed: Iterable[int]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """What ends a response, and what is to be said about it.

    given    the user's EOS, which comes first
    named    the folder's, first where the user names none
    listed   ids that the model's generation ends at too; those that are no tokens are left out

    Raises UserError where `given` is not in the vocabulary.
    """
    known = [id for id in listed if backend.id_to_token(id) is not None]
    first = named if given is None else given
    if first is not None:
        return tuple(dict.fromkeys([id_of(backend, first), *known])), ()
    return tuple(dict.fromkeys(known)), tuple(
        f"no EOS is named: {token_of(backend, id)!r} ({id}), where the model's generation ends, is used"
        for id in known[:1]
    )


def choose_pad(
    backend: tokenizers.Tokenizer,
    given: str | None,
    named: str | None,
    eos_ids: tuple[int, ...],
    bos_id: int | None,
) -> tuple[int, tuple[str, ...]]:
    """PAD, and what is to be said about it.

    given    what the user names; taken, if it is no end of a response
    named    what the folder names; taken, if it is no end either
    eos_ids  the ends of a response
    bos_id   PAD where no special token is left

    Raises UserError where `given` ends responses, or is not in the vocabulary.
    """
    if given is not None:
        if (id := id_of(backend, given)) in eos_ids:
            raise UserError(
                f"{given!r} ends responses and cannot be PAD as well: name another token (pad_token)"
            )
        return id, ()
    if named is not None and (id := id_of(backend, named)) not in eos_ids:
        return id, ()
    why = "no PAD is named" if named is None else f"the PAD that is named, {named!r}, ends responses"
    free = padding(special_tokens(backend), eos_ids, bos_id)
    if free is not None:
        return free, (f"{why}: {token_of(backend, free)!r} ({free}) is used",)
    ids = sorted(backend.get_vocab().values())
    any_id = next((id for id in ids if id not in eos_ids), eos_ids[0])
    harmless = "masks come from lengths, so that it does no harm"
    return any_id, (
        f"{why}, and no token is free for it: {token_of(backend, any_id)!r} ({any_id}) is used; {harmless}",
    )


def id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    """The id of a token. Raises UserError if there is none."""
    id = backend.token_to_id(token)
    if id is None:
        raise UserError(f"{token!r} is not a token of the vocabulary: name one that is")
    return int(id)


def token_of(backend: tokenizers.Tokenizer, id: int) -> str | None:
    """The token with this id, as texts spell it: the library gives added ones as they are normalised."""
    added = backend.get_added_tokens_decoder().get(id)
    token = backend.id_to_token(id) if added is None else added.content
    return None if token is None else str(token)


def whole_words(vocabulary: dict[str, int], unknown: str | None) -> tokenizers.Tokenizer:
    """A tokenizer that knows whole words alone; `unknown` is one of them, and stands for all others."""
    # The library's own default, "<unk>", could be one of the words; an empty word cannot.
    return tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown or ""))


def encoding(backend: tokenizers.Tokenizer, text: str, special: bool = False) -> tokenizers.Encoding:
    """The ids of a text and where they stand in it. Raises UserError for a text that has none."""
    try:
        return backend.encode(text, add_special_tokens=special)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as above
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
