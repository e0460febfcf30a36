"""What the files beside `tokenizer.json` say: added tokens, ends of a response, the chat template."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from proximo.errors import UserError
from proximo.language.text.templates import compile_template

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
KEPT = ("model_max_length", "padding_side", "split_special_tokens")
"""What is saved as it came. The rest is in `tokenizer.json`, which `transformers` too prefers."""

ATTRIBUTES = ("lstrip", "rstrip", "single_word", "normalized", "special")
"""How an added token is found in a text, and whether it is text at all."""

GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes of `transformers` that take `add_prefix_space` from `tokenizer.json` alone."""

PADDING = (r"^\W*pad(ding)?\W*$|right_pad", r"reserved|unused|dummy", r"^\W*unk(nown)?\W*$", r"pad")
"""How a special token is called that may serve as PAD, the most fitting first."""


@dataclass(frozen=True)
class Description:
    """What a folder says about its tokenizer.

    named          `bos_token`, `eos_token`, `pad_token`, `unk_token` -> the token, where the folder names one
    described      added tokens, which are as they are described here whatever `tokenizer.json` says of them
    special        tokens that are never text, described for a `tokenizer.json` that says nothing of them
    eos_ids        the ends that `generation_config.json` names, or `config.json` where that names none
    template       the chat template, where there is one
    prefix_space   whether a blank is put before a text; None where `tokenizer.json` alone says so
    generic        whether the tokenizer's class is one that goes by `tokenizer.json` there anyway
    split_special  whether special tokens that a text spells out are split like any other text
    kept           what is saved as it came
    notes          what had to be chosen
    """

    named: Mapping[str, str]
    described: tuple[AddedToken, ...]
    special: tuple[AddedToken, ...]
    eos_ids: tuple[int, ...]
    template: str | None
    prefix_space: bool | None
    generic: bool
    split_special: bool
    kept: Mapping[str, Any]
    notes: tuple[str, ...]


def read_description(folder: Path, chat_template: Path | None = None) -> Description:
    """Reads all of these files that are there.

    chat_template  a file with a chat template, in the place of the folder's

    Raises UserError for one that cannot be read, or says something of the wrong kind.
    """
    place = folder / "tokenizer_config.json"
    config, tokens = _object(place), _object(folder / "special_tokens_map.json")
    mentioned = {name: config.get(name) or tokens.get(name) for name in NAMED}
    named = {name: _content(token, place) for name, token in mentioned.items()}
    template, notes = _template(folder, config) if chat_template is None else (_given(chat_template), ())
    if template is not None and "strftime_now" in template:
        notes += ("the chat template may write today's date: tomorrow the same messages are other tokens",)
    described = _described(config, place)
    listed = [
        *mentioned.values(),
        *_listed_special_tokens(tokens, folder / "special_tokens_map.json"),
        *_listed_special_tokens(config, place),
    ]
    special = [_added(token, place, special=True) for token in listed if _content(token, place) is not None]
    plain = [] if described else _object(folder / "added_tokens.json")  # of older versions: token -> id
    prefix_space = config.get("add_prefix_space")
    return Description(
        named={name: token for name, token in named.items() if token is not None},
        described=described,
        special=(*special, *(AddedToken(token, special=False) for token in plain)),
        eos_ids=_eos_ids(folder / "generation_config.json") or _eos_ids(folder / "config.json"),
        template=template,
        prefix_space=None if prefix_space is None else bool(prefix_space),
        generic=config.get("tokenizer_class") in GENERIC,
        split_special=bool(config.get("split_special_tokens", False)),
        kept={name: config[name] for name in KEPT if name in config},
        notes=notes,
    )


def padding(special: Mapping[int, str], taken: Collection[int], bos_id: int | None) -> int | None:
    """The special token that fits best as PAD, by its name; BOS where nothing else is there.

    special  id -> token
    taken    ids that PAD must not be
    returns  an id; None if there is none
    """
    free = {id: token for id, token in sorted(special.items()) if id not in taken and id != bos_id}
    for pattern in PADDING:
        for id, token in free.items():
            if re.search(pattern, token, re.IGNORECASE):
                return id
    return bos_id if bos_id is not None and bos_id not in taken else None


def read_text(place: Path) -> str | None:
    """A text file; None if it is not there. Raises UserError if it cannot be read."""
    try:
        return place.read_text("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not UTF-8 text ({error.reason}): restore it from a copy") from error


def _object(place: Path) -> dict[str, Any]:
    text = read_text(place)
    try:
        content = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not readable JSON ({error}): restore it from a copy") from error
    if not isinstance(content, dict):
        raise UserError(f"{place} holds no JSON object: restore it from a copy")
    return content


def _content(token: Any, place: Path) -> str | None:
    """A token is written as a text, or as an object with this text as its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    if content is None or (isinstance(content, str) and content):
        return content
    raise UserError(f"{place} names {content!r} as a special token: give a text")


def _added(token: Any, place: Path, **attributes: bool) -> AddedToken:
    """An added token, as the text or the object that describes it says; `attributes` count more."""
    described = token if isinstance(token, dict) else {}
    said = {name: bool(described[name]) for name in ATTRIBUTES if name in described}
    return AddedToken(_content(token, place) or "", **{**said, **attributes})


def _described(config: Mapping[str, Any], place: Path) -> tuple[AddedToken, ...]:
    """Id -> token, with its attributes."""
    described = config.get("added_tokens_decoder") or {}
    if not isinstance(described, dict):
        raise _unknown_form(place)
    given = [token for token in described.values() if isinstance(token, dict) and _content(token, place)]
    return tuple(_added(token, place) for token in given)


def _listed_special_tokens(content: Mapping[str, Any], place: Path) -> list[Any]:
    """Special tokens that have no name of their own."""
    found: list[Any] = []
    for tokens in (content.get(name) or [] for name in ("additional_special_tokens", "extra_special_tokens")):
        if not isinstance(tokens, list | dict):
            raise _unknown_form(place)
        found += tokens.values() if isinstance(tokens, dict) else tokens
    return found


def _unknown_form(place: Path) -> UserError:
    return UserError(f"{place} lists special tokens in a form that is not known: restore it from a copy")


def _eos_ids(place: Path) -> tuple[int, ...]:
    ids = _object(place).get("eos_token_id")
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(isinstance(id, int) and not isinstance(id, bool) and 0 <= id < 2**32 for id in listed):
        raise UserError(f"{place} says eos_token_id = {ids!r}: give an id, or a list of ids")
    return tuple(listed)


def _given(place: Path) -> str:
    text = read_text(place)
    if text is None:
        raise UserError(f"{place} is missing: name a file with a chat template (Jinja)")
    try:
        compile_template(text)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    return text


def _template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    text = read_text(folder / "chat_template.jinja")
    inline = config.get("chat_template")
    if text is not None or inline is None:
        return text, ()
    if isinstance(inline, str):
        return inline, ()
    try:
        templates = {str(entry["name"]): str(entry["template"]) for entry in inline}
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: chat_template is neither a text nor a list of named ones"
        ) from error
    if "default" not in templates:
        names = ", ".join(sorted(templates)) or "none at all"
        return None, (
            f"no chat template is called 'default' (there is: {names}): name a file of one (--chat-template)",
        )
    left = ", ".join(sorted({*templates} - {"default"}))
    return templates["default"], (f"the chat template 'default' is used, not: {left}",) if left else ()
