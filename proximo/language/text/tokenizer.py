"""Tokenizers: from a model folder in the Hugging Face Hub's format, or from a list of words or symbols.

A `Tokenizer` is the Rust tokenizer of `tokenizer.json`, the ids of its special tokens, and the model's chat
template. Nothing in a folder is executed but the template, in a sandbox (`templates`).

PAD and EOS differ whenever the vocabulary allows it. Masks come from lengths in any case, so padding is never
taken for an end token.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models
from tokenizers.pre_tokenizers import PreTokenizer, Split, WhitespaceSplit

from proximo.errors import UserError
from proximo.language.text.conversations import answer_affixes, conversation, render_checked
from proximo.language.text.templates import ChatTemplate, Messages
from proximo.language.text.tokenizer_backend import (
    add_tokens,
    choose_eos,
    choose_pad,
    encoding,
    hear_settings,
    special_tokens,
    token_of,
)
from proximo.language.text.tokenizer_files import read_backend, read_description

PAD, EOS, BOS = "<pad>", "<eos>", "<bos>"
"""Ids 0, 1 and 2 of a tokenizer made from words or symbols."""

KEPT = ("model_max_length", "padding_side", "split_special_tokens")
"""Settings that are saved unchanged. The others are in `tokenizer.json`, which `transformers` prefers too."""

BEFORE = ("\n", ".", "a", "0")
"""Texts that another text may follow: some tokenizers merge it with the one, some with the other."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids, and back.

    backend   the Rust tokenizer, without truncation and padding
    bos_id    the token that begins a text, if there is one
    eos_ids   the tokens that end a response; training appends the first one
    pad_id    the padding token; never one of `eos_ids` if the vocabulary has another token
    template  the chat template (Jinja), if there is one
    notes     remarks for the user on choices that were made, a line each
    settings  content of `tokenizer_config.json` when saved
    names     further variables of the template, such as `tools`
    """

    backend: tokenizers.Tokenizer
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    template: str | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)

    @property
    def eos_id(self) -> int:
        """The token that training appends to a text or an answer."""
        return self.eos_ids[0]

    @cached_property
    def vocab_size(self) -> int:
        """The largest id plus one; some tokenizers skip ids."""
        return max(self.backend.get_vocab().values()) + 1

    @cached_property
    def start_ids(self) -> tuple[int, ...]:
        """Token ids that the tokenizer adds before every text, such as BOS; often none."""
        sample = self.backend.encode(self.token(self.pad_id), add_special_tokens=True)
        added = takewhile(lambda pair: pair[1], zip(sample.ids, sample.special_tokens_mask, strict=True))
        return tuple(id for id, _ in added)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text; with `special`, also the tokens that the tokenizer adds around every text.

        Special tokens that occur in the text become their ids.

        Raises UserError for a text that cannot be encoded, for example with an unknown word.
        """
        return list(encoding(self.backend, text, special).ids)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of token ids; an id beyond the vocabulary, which a model may have, has none."""
        return str(self.backend.decode([int(id) for id in ids], skip_special_tokens=skip_special))

    def token(self, id: int) -> str:
        """The token with this id. Raises UserError if there is none."""
        token = token_of(self.backend, int(id)) if 0 <= id < self.vocab_size else None
        if token is None:
            raise UserError(f"the tokenizer has no token id {id}: the largest is {self.vocab_size - 1}")
        return token

    def continuation(self, before: str, after: str) -> list[int]:
        """The ids of the text that `after` adds to `before`; `before` keeps the ids that it has alone.

        If the whole text begins with the ids of `before`, the others are as in the whole text: some
        tokenizers (SentencePiece's) add a space before a text that is encoded alone. If a token would cross
        the border, they are as after another text.
        """
        tail = self._tail(before, after) if before else self.encode(after)
        return self.behind_text(after[len(before) :]) if tail is None else tail

    def behind_text(self, text: str) -> list[int]:
        """The ids of a text after another one; those that it has alone if they cannot be separated."""
        tails = (self._tail(before, before + text) for before in BEFORE)
        found = next((tail for tail in tails if tail is not None), None)
        return self.encode(text) if found is None else found

    def chat(self, messages: Messages, generation_prompt: bool) -> str:
        """Messages as one text, written by the chat template.

        generation_prompt  whether the text ends where the assistant's answer begins

        Raises UserError without a template, and if the template fails or is refused.
        """
        return self._template.text(messages, generation_prompt)

    def chat_whole(self, messages: Messages) -> str:
        """As `chat`, but also raises UserError if something that the assistant wrote is missing."""
        return render_checked(self._template, messages)

    def chat_spans(self, messages: Messages, start: int = 0) -> list[tuple[list[int], bool]]:
        """The ids of a conversation in pieces, and whether each is trained on: the assistant's pieces are.

        The text before an answer is the text that a model would be prompted with. An answer ends with its
        EOS. A line break that the template writes after it is not trained on, since sampling stops at EOS.
        A message of weight 0 is not trained on.

        start  messages before this one are a prompt, whoever wrote them

        Raises UserError if an answer cannot be found in the template's text, or is incomplete there.
        """
        text, cuts = conversation(self._template, messages, start, [*self._special.values()])
        spans: list[tuple[list[int], bool]] = []
        done = 0
        for end, learn in cuts:
            # Some templates have a second end, of the whole conversation, behind the last answer's.
            ids, rest = self.continuation(text[:done], text[:end]), list[int]()
            if learn:
                ids, rest = self.until_eos(ids, self._special)
            spans += [(ids, learn), (rest, False)]
            done = end
        return [(ids, learn) for ids, learn in spans if ids]

    def until_eos(self, ids: list[int], others: Collection[int] = ()) -> tuple[list[int], list[int]]:
        """Splits an answer after its EOS, if only spaces, further end tokens and `others` follow."""
        for place, id in enumerate(ids):
            if id in self.eos_ids:
                rest = [one for one in ids[place + 1 :] if one not in self.eos_ids and one not in others]
                if not self.decode(rest, skip_special=False).strip():
                    return ids[: place + 1], ids[place + 1 :]
        return ids, []

    def files(self) -> dict[str, bytes]:
        """File contents to save, by name; `transformers.AutoTokenizer` gives the same ids from them."""
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self.settings}
        saved = {
            "tokenizer.json": str(self.backend.to_str(pretty=True)).encode(),
            "tokenizer_config.json": json.dumps(settings, indent=2, sort_keys=True).encode(),
        }
        return saved if self.template is None else {**saved, "chat_template.jinja": self.template.encode()}

    @cached_property
    def _special(self) -> dict[int, str]:
        return special_tokens(self.backend)

    @cached_property
    def _template(self) -> ChatTemplate:
        if self.template is None:
            raise UserError(
                "the tokenizer has no chat template: give one (--chat-template FILE), or give text "
                "instead of messages"
            )
        tokens = {name: token for name, token in self.settings.items() if name.endswith("_token")}
        return ChatTemplate(self.template, {**tokens, **self.names})

    def _tail(self, before: str, after: str) -> list[int] | None:
        """The ids after those of `before` in a longer text; None if it does not begin with them."""
        try:
            head, whole = self.encode(before), encoding(self.backend, after)
        except UserError:  # not every tokenizer knows all of `BEFORE`, or two words that are one together
            return None
        size = len(head)
        if not head or whole.ids[:size] != head:
            return None
        # One unknown word that began before the border hides what of it stands behind. Blanks may go with
        # either side: some tokens swallow those around them.
        last = max(end for _, end in whole.offsets[:size])
        first = min((start for start, _ in whole.offsets[size:]), default=len(after))
        border = len(before)
        return None if after[border:last].strip() or after[first:border].strip() else list(whole.ids[size:])


def load_tokenizer(
    folder: Path,
    eos_token: str | None = None,
    pad_token: str | None = None,
    chat_template: Path | None = None,
) -> Tokenizer:
    """The tokenizer of a model folder.

    eos_token, pad_token  tokens of its vocabulary, instead of those that the folder names
    chat_template         a file with a chat template, instead of the folder's

    Raises UserError if a file is missing or unreadable, and if no token is named as EOS.
    """
    folder = Path(folder)
    backend = read_backend(folder / "tokenizer.json")
    said = read_description(folder, chat_template)
    vocabulary = backend.get_vocab()
    named = {name: token for name, token in said.named.items() if token in vocabulary}
    eos_ids, eos_notes = choose_eos(backend, eos_token, named.get("eos_token"), said.eos_ids)
    if not eos_ids:
        raise UserError(f"{folder} names no EOS, the token that ends a response: give one (eos_token)")
    named["eos_token"] = str(token_of(backend, eos_ids[0]))
    absent = add_tokens(backend, [*named.values()], said.described, said.special)
    notes = [f"{one!r} is named as a token but is not in the vocabulary: ignored" for one in sorted(absent)]
    notes += hear_settings(backend, said.settings)
    bos_id = vocabulary[named["bos_token"]] if "bos_token" in named else None
    pad_id, pad_notes = choose_pad(backend, pad_token, named.pop("pad_token", None), eos_ids, bos_id)
    if pad := special_tokens(backend).get(pad_id):  # `transformers` would split texts at any other
        named["pad_token"] = pad
    kept = {name: said.settings[name] for name in KEPT if name in said.settings}
    tokenizer = Tokenizer(
        backend=backend,
        bos_id=bos_id,
        eos_ids=eos_ids,
        pad_id=pad_id,
        template=said.template,
        settings={**kept, "clean_up_tokenization_spaces": False, **named},
    )
    notes += [*eos_notes, *pad_notes, *said.notes, *_notes_of_template(tokenizer)]
    return replace(tokenizer, notes=tuple(notes))


def _notes_of_template(tokenizer: Tokenizer) -> Iterator[str]:
    """Notes on how the chat template writes an answer; none if the template fails on it."""
    try:
        asks, end = answer_affixes(tokenizer._template)
        ids = tokenizer.encode(end)
    except UserError:
        return
    ends = [id for id in ids if id in tokenizer._special]
    if ends and ends[0] not in tokenizer.eos_ids:
        token, eos = tokenizer.token(ends[0]), tokenizer.token(tokenizer.eos_id)
        yield (
            f"the chat template ends an answer with {token!r}, and EOS is {eos!r}: to end answers with the "
            f"template's, say --eos-token {token!r}"
        )
    if asks:
        yield (
            f"the chat template ends a prompt with {asks!r}, but does not write it before given answers, so "
            "training and sampling differ: use a template that writes both the same way (--chat-template)"
        )


def word_tokenizer(words: Iterable[str], *, unknown: str | None = None) -> Tokenizer:
    """A tokenizer of whole words, separated by spaces.

    words    from id 3 on, after `<pad>`, `<eos>` and `<bos>`; from 4 on if there is an `unknown`
    unknown  a token for every other word; without it, another word is an error

    Raises UserError for a word that is empty, contains a space, or occurs twice.
    """
    words = list(words)
    if wrong := [word for word in words if word.split() != [word]]:
        raise UserError(f"{wrong[0]!r} is not one word: give words without spaces")
    return _from_scratch(words, WhitespaceSplit(), unknown)


def character_tokenizer(symbols: Iterable[str]) -> Tokenizer:
    """A tokenizer of single characters.

    symbols  from id 3 on, after `<pad>`, `<eos>` and `<bos>`

    Raises UserError for a symbol that is not one character, or occurs twice.
    """
    symbols = list(symbols)
    if wrong := [symbol for symbol in symbols if len(symbol) != 1]:
        raise UserError(f"{wrong[0]!r} is not one character: use word_tokenizer for longer symbols")
    tokenizer = _from_scratch(symbols, Split(Regex(r"[\s\S]"), "isolated"))
    tokenizer.backend.decoder = decoders.Fuse()
    return tokenizer


def _from_scratch(words: list[str], split: PreTokenizer, unknown: str | None = None) -> Tokenizer:
    """A tokenizer of exactly these words; `unknown` is the token for all others."""
    tokens = [PAD, EOS, BOS, *([unknown] if unknown else []), *words]
    ids = {token: id for id, token in enumerate(tokens)}
    if twice := [token for id, token in enumerate(tokens) if ids[token] != id]:
        raise UserError(f"{twice[0]!r} occurs twice in the vocabulary, which begins with {PAD}, {EOS}, {BOS}")
    # The library's own default, "<unk>", could be one of the words; an empty word cannot.
    backend = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=unknown or ""))
    backend.pre_tokenizer = split
    named = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    named |= {"unk_token": unknown} if unknown else {}
    add_tokens(backend, named.values())
    settings = {"clean_up_tokenization_spaces": False, **named}
    return Tokenizer(backend, ids[BOS], (ids[EOS],), ids[PAD], settings=settings)
