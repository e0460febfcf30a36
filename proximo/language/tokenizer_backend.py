"""The Rust tokenizer of the `tokenizers` library: reading it, its special tokens, its errors in our words."""

import re
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models

from proximo.errors import UserError
from proximo.language.templates import one_line
from proximo.language.tokenizer_files import padding, read_text


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


def mark_special(backend: tokenizers.Tokenizer, tokens: Iterable[str]) -> None:
    """As `transformers` does on loading; a token that the vocabulary does not have is not added."""
    present = [token for token in tokens if backend.token_to_id(token) is not None]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in present])


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
        f"no EOS is named: {backend.id_to_token(id)!r} ({id}), where the model's generation ends, is used"
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
        return free, (f"{why}: {backend.id_to_token(free)!r} ({free}) is used",)
    ids = sorted(backend.get_vocab().values())
    any_id = next((id for id in ids if id not in eos_ids), eos_ids[0])
    harmless = "masks come from lengths, so that it does no harm"
    return any_id, (
        f"{why}, and no token is free for it: {backend.id_to_token(any_id)!r} ({any_id}) is used; {harmless}",
    )


def id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    """The id of a token. Raises UserError if there is none."""
    id = backend.token_to_id(token)
    if id is None:
        raise UserError(f"{token!r} is not a token of the vocabulary: name one that is")
    return int(id)


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
