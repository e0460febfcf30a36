"""Loading a tokenizer changes nothing: added tokens keep how they are found, other settings are heard."""

import itertools
import json

import pytest
from small_tokenizers import byte_level, metaspace, saved, write
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from proximo.language.text.tokenizer import load_tokenizer

ATTRIBUTES = ("lstrip", "rstrip", "single_word", "normalized", "special")
EVERY = {
    f"<t{number}>": dict(zip(ATTRIBUTES, values, strict=True))
    for number, values in enumerate(itertools.product((False, True), repeat=5))
}
AROUND = ["{}", "hello{}world", "hello {} world", "\n{}\n\nhello", "hello  {}{} \n", "_{} 1{}."]
TEXTS = [around.format(token, token) for token in EVERY for around in AROUND]


@pytest.fixture(scope="module", params=[byte_level, metaspace], ids=["byte level", "blank first"])
def every(request):
    """A tokenizer with an added token of each kind, as text of its file."""
    backend = request.param()
    for content, attributes in EVERY.items():
        backend.add_tokens([AddedToken(content, **attributes)])
    return backend.to_str()


def described(**changes):
    """As `added_tokens_decoder` of tokenizer_config.json has them."""
    return {
        str(id): {"content": content, **attributes, **changes}
        for id, (content, attributes) in enumerate(EVERY.items(), 400)
    }


def encoded(tokenizer, texts, special=False):
    return [tokenizer.encode(text, special) for text in texts]


MENTIONED = {
    "nowhere": {},
    "by name": {
        "bos_token": "<t24>",
        "pad_token": "<t7>",
        "unk_token": {"content": "<t30>", "lstrip": False},
    },
    "in lists": {"additional_special_tokens": [*EVERY], "extra_special_tokens": ["<t9>"]},
    "with attributes": {"added_tokens_decoder": described(), "bos_token": "<t24>"},
}


@pytest.mark.parametrize("config", MENTIONED.values(), ids=MENTIONED)
def test_added_tokens_are_found_as_the_library_finds_them(tmp_path, every, config):
    # <t24> is lstrip, rstrip, and no more: "a <t24>\nb" has no blank and no line break in its ids.
    theirs = Backend.from_str(every)
    tokenizer = load_tokenizer(write(tmp_path / "from", every, eos_token="<t31>", **config))
    again = load_tokenizer(saved(tmp_path / "saved", tokenizer))
    expected = [found.ids for found in theirs.encode_batch(TEXTS, add_special_tokens=False)]
    assert encoded(tokenizer, TEXTS) == encoded(again, TEXTS) == expected
    named = {"<t31>", *(config.get(name) for name in ("bos_token", "pad_token"))}
    named |= {"<t30>"} if "unk_token" in config else set()
    for one in (tokenizer, again):
        for id, token in one.backend.get_added_tokens_decoder().items():
            if token.content in EVERY:
                found = {name: getattr(token, name) for name in ATTRIBUTES}
                expected_special = EVERY[token.content]["special"] or token.content in named
                assert found == EVERY[token.content] | {"special": expected_special}
                assert theirs.token_to_id(token.content) == id


@pytest.mark.parametrize("file", ["special_tokens_map.json", "added_tokens.json"])
def test_older_files_change_no_token_that_is_added_already(tmp_path, every, file):
    theirs = Backend.from_str(every)
    folder = write(tmp_path, every, eos_token="<t31>")
    listed = {"special_tokens_map.json": {"additional_special_tokens": [*EVERY], "bos_token": "<t24>"}}
    content = listed.get(file) or {content: theirs.token_to_id(content) for content in EVERY}
    (folder / file).write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder)
    assert encoded(tokenizer, TEXTS) == [
        found.ids for found in theirs.encode_batch(TEXTS, add_special_tokens=False)
    ]


def test_what_the_config_says_of_a_token_counts_more(tmp_path):
    # As in `transformers`, where the two files differ: here all tokens swallow what stands around them.
    from transformers import AutoTokenizer

    backend = byte_level()
    backend.add_tokens([AddedToken(content, **attributes) for content, attributes in EVERY.items()])
    config = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>")
    changed = described(lstrip=True, rstrip=True)
    folder = write(tmp_path / "from", backend.to_str(), added_tokens_decoder=changed, **config)
    tokenizer = load_tokenizer(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    again = AutoTokenizer.from_pretrained(saved(tmp_path / "saved", tokenizer))
    expected = theirs(TEXTS, add_special_tokens=False)["input_ids"]
    assert encoded(tokenizer, TEXTS) == expected == again(TEXTS, add_special_tokens=False)["input_ids"]
    assert expected != [found.ids for found in backend.encode_batch(TEXTS)]


def test_a_token_that_only_older_files_list_is_found_as_they_say(tmp_path):
    # Both are words of the vocabulary; special_tokens_map.json makes one of them swallow blanks.
    folder = write(tmp_path, byte_level().to_str(), eos_token="<|im_end|>")
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "wor", "lstrip": True}})
    )
    (folder / "added_tokens.json").write_text(json.dumps({"ld": 300, "wor": 301, "<nowhere>": 999}))
    tokenizer = load_tokenizer(folder)
    assert [tokenizer.token(id) for id in tokenizer.encode("he wor")] == ["he", "wor"]
    added = {token.content: token for token in tokenizer.backend.get_added_tokens_decoder().values()}
    assert (added["wor"].special, added["ld"].special) == (True, False)
    assert any(
        "'<nowhere>' is named as a token but is not in the vocabulary" in note for note in tokenizer.notes
    )


# ---- settings beside the tokens

PLAIN_TEXTS = ["hello world", " hello", "", "\nhello", "a<|im_end|>b <|im_start|> hello", "hello<|im_end|>"]


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("setting", ["add_prefix_space", "split_special_tokens"])
@pytest.mark.parametrize("value", [False, True])
def test_settings_are_heard_as_transformers_hears_them(tmp_path, kind, setting, value):
    from transformers import AutoTokenizer

    config = dict(eos_token="<|im_end|>", tokenizer_class=kind, **{setting: value})
    folder = write(tmp_path / "from", byte_level().to_str(), **config)
    tokenizer = load_tokenizer(folder)
    again = saved(tmp_path / "saved", tokenizer)
    expected = AutoTokenizer.from_pretrained(folder)(PLAIN_TEXTS)["input_ids"]
    assert encoded(tokenizer, PLAIN_TEXTS) == expected
    assert encoded(load_tokenizer(again), PLAIN_TEXTS) == expected
    assert AutoTokenizer.from_pretrained(again)(PLAIN_TEXTS)["input_ids"] == expected
    said = " / ".join(tokenizer.notes)
    unheard = setting == "add_prefix_space" and value and kind == "PreTrainedTokenizerFast"
    assert ("add_prefix_space = true, tokenizer.json the opposite" in said) == unheard
    assert ("split_special_tokens" in said) == (setting == "split_special_tokens" and value)


@pytest.mark.parametrize("value", [False, True, None])
def test_a_blank_before_texts_that_cannot_be_taken_away_is_noted(tmp_path, value):
    folder = write(tmp_path, metaspace().to_str(), eos_token="</s>", bos_token="<s>", add_prefix_space=value)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("hello") == metaspace().encode("hello", add_special_tokens=False).ids
    noted = any("add_prefix_space = false, tokenizer.json the opposite" in note for note in tokenizer.notes)
    assert noted == (value is False)


def test_the_file_counts_more_than_the_class_and_what_is_saved_says_so(tmp_path):
    # Some classes of `transformers` put parts of their own in the place of those of tokenizer.json; we follow
    # the file, and save it with a class that does so too.
    from transformers import AutoTokenizer

    folder = write(
        tmp_path / "from",
        metaspace().to_str(),
        tokenizer_class="LlamaTokenizer",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer = load_tokenizer(folder)
    expected = [found.ids for found in metaspace().encode_batch(PLAIN_TEXTS)]
    assert encoded(tokenizer, PLAIN_TEXTS, special=True) == expected
    again = AutoTokenizer.from_pretrained(saved(tmp_path / "saved", tokenizer))
    assert again(PLAIN_TEXTS)["input_ids"] == expected
