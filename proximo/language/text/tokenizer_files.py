"""Reads the files of a tokenizer: vocabulary, added tokens, end tokens, and the chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from proximo.errors import UserError
from proximo.language.text.templates import compile_template, one_line
from proximo.runs.sealed import json_object

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
ATTRIBUTES = ("lstrip", "rstrip", "single_word", "normalized", "special")
"""Properties of an added token: how it is found in a text, and whether it is special."""


@dataclass(frozen=True)
class Description:
    """The settings of a folder's tokenizer.

    named      `bos_token`, `eos_token`, `pad_token`, `unk_token` -> the token, if the folder names one
    described  added tokens; this description has priority over `tokenizer.json`
    special    special tokens, for those that `tokenizer.json` does not describe
    eos_ids    the end tokens in `generation_config.json`, or if it has none in `config.json`
    template   the chat template, if there is one
    settings   content of `tokenizer_config.json`
    notes      remarks for the user on choices that were made
    """

    named: Mapping[str, str]
    described: tuple[AddedToken, ...]
    special: tuple[AddedToken, ...]
    eos_ids: tuple[int, ...]
    template: str | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def read_backend(place: Path) -> tokenizers.Tokenizer:
    """The tokenizer of `tokenizer.json`. Raises UserError if the file is missing or invalid."""
    text = _text(place)
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


def read_description(folder: Path, chat_template: Path | None = None) -> Description:
    """Reads all files beside `tokenizer.json` that exist.

    chat_template  a file with a chat template, instead of the folder's

    Raises UserError for a file that cannot be read, or that has values of the wrong kind.
    """
    place, older = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    config, tokens = _object(place), _object(older)
    mentioned = {name: config.get(name) or tokens.get(name) for name in NAMED}
    named = {name: _content(token, place) for name, token in mentioned.items()}
    template, notes = _template(folder, config) if chat_template is None else (_given(chat_template), ())
    if template is not None and "strftime_now" in template:
        notes += ("the chat template may write today's date: tomorrow the same messages have other tokens",)
    listed = [*mentioned.values(), *_unnamed(tokens, older), *_unnamed(config, place)]
    special = [_added(token, place, special=True) for token in listed if _content(token, place) is not None]
    decoder = config.get("added_tokens_decoder") or {}  # id -> token, with its attributes
    if not isinstance(decoder, dict):
        raise _unknown_form(place)
    described = [token for token in decoder.values() if isinstance(token, dict) and _content(token, place)]
    plain = [] if described else _object(folder / "added_tokens.json")  # of older versions: token -> id
    return Description(
        named={name: token for name, token in named.items() if token is not None},
        described=tuple(_added(token, place) for token in described),
        special=(*special, *(AddedToken(token, special=False) for token in plain)),
        eos_ids=_eos_ids(folder / "generation_config.json") or _eos_ids(folder / "config.json"),
        template=template,
        settings=config,
        notes=notes,
    )


def _text(place: Path) -> str | None:
    """A text file; None if it does not exist."""
    try:
        return place.read_text("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not UTF-8 text ({error.reason}): restore it from a copy") from error


def _object(place: Path) -> dict[str, Any]:
    return json_object(place) if place.exists() else {}


def _content(token: Any, place: Path) -> str | None:
    """A token as text; files write it as a text, or as an object with this text as its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    if content is None or (isinstance(content, str) and content):
        return content
    raise UserError(f"{place} names {content!r} as a special token: give a text")


def _added(token: Any, place: Path, **attributes: bool) -> AddedToken:
    """An added token from the text or object that describes it; `attributes` have priority."""
    described = token if isinstance(token, dict) else {}
    said = {name: bool(described[name]) for name in ATTRIBUTES if name in described}
    return AddedToken(_content(token, place) or "", **{**said, **attributes})


def _unnamed(content: Mapping[str, Any], place: Path) -> list[Any]:
    """Special tokens without a name such as `eos_token`."""
    found: list[Any] = []
    for tokens in (content.get(name) or [] for name in ("additional_special_tokens", "extra_special_tokens")):
        if not isinstance(tokens, list | dict):
            raise _unknown_form(place)
        found += tokens.values() if isinstance(tokens, dict) else tokens
    return found


def _unknown_form(place: Path) -> UserError:
    return UserError(f"{place} lists special tokens in an unknown format: restore it from a copy")


def _eos_ids(place: Path) -> tuple[int, ...]:
    ids = _object(place).get("eos_token_id")
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(isinstance(id, int) and not isinstance(id, bool) and 0 <= id < 2**32 for id in listed):
        raise UserError(f"{place} says eos_token_id = {ids!r}: give an id, or a list of ids")
    return tuple(listed)


def _given(place: Path) -> str:
    text = _text(place)
    if text is None:
        raise UserError(f"{place} is missing: give a file with a chat template (Jinja)")
    try:
        compile_template(text)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    return text


def _template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    text, inline = _text(folder / "chat_template.jinja"), config.get("chat_template")
    if text is not None or inline is None or isinstance(inline, str):
        return inline if text is None else text, ()
    try:
        templates = {str(entry["name"]): str(entry["template"]) for entry in inline}
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: chat_template is neither a text nor a list of named ones"
        ) from error
    found = templates.pop("default", None)
    others = ", ".join(sorted(templates)) or "no other"
    if found is None:
        name = "give one (--chat-template FILE)"
        return None, (f"no chat template is called 'default' (there is: {others}): {name}",)
    return found, (f"the chat template 'default' is used, not: {others}",) if templates else ()
