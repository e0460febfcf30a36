"""Text to ids and back, chat templates, and the same ids in `transformers`."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import CHATML, ZEPHYR, byte_level, metaspace, saved, write
from tokenizers import Tokenizer as Backend
from tokenizers import models

from proximo.errors import UserError
from proximo.language.text.tokenizer import character_tokenizer, load_tokenizer, word_tokenizer

TEXTS = ["hello world", " The  quick\n\nfox!", "naïve café 0", "a<|im_end|>b <s></s> <unk>", ""]
TALK = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "world"},
    {"role": "user", "content": "The fox"},
    {"role": "assistant", "content": "jumps"},
]


@pytest.fixture(scope="module")
def qwen_like():
    return byte_level().to_str()


@pytest.fixture(scope="module")
def llama_like():
    return metaspace().to_str()


def refused(folder, text, **options):
    with pytest.raises(UserError, match=text) as error:
        load_tokenizer(folder, **options)
    assert "\n" not in str(error.value)


# ---- from scratch


def test_words():
    tokenizer = word_tokenizer(["left", "right"])
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2)
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("right  left\nleft") == [4, 3, 3]
    assert tokenizer.decode([4, 3, 1, 0]) == "right left"
    assert tokenizer.decode([4, 1], skip_special=False) == "right <eos>"
    assert tokenizer.encode("left<eos>") == [3, 1]  # what a text spells out is the special token
    assert (tokenizer.token(4), tokenizer.backend.token_to_id("<eos>")) == ("right", 1)


def test_a_word_that_is_not_known():
    with pytest.raises(UserError, match="'up' is not in the vocabulary"):
        word_tokenizer(["left", "<unk>"]).encode("left<eos> up")
    tokenizer = word_tokenizer(["left"], unknown="<unk>")
    assert tokenizer.encode("left up") == [4, 3]
    assert json.loads(tokenizer.files()["tokenizer_config.json"])["unk_token"] == "<unk>"


def test_other_models_say_themselves_what_is_wrong(tmp_path):
    # Neither names the word: the first does not look for whole words, the second does not cut any.
    vocabulary = {"<eos>": 0, "a": 1}
    for model in (models.WordPiece(vocabulary, unk_token="?"), models.WordLevel(vocabulary, unk_token="?")):
        tokenizer = load_tokenizer(write(tmp_path, Backend(model).to_str(), eos_token="<eos>"))
        with pytest.raises(UserError, match=r"cannot be encoded: Word.* error: Missing \[UNK\] token"):
            tokenizer.encode("b")


def test_characters():
    tokenizer = character_tokenizer("ab \n")
    assert tokenizer.encode("b a\nb") == [4, 5, 3, 6, 4]
    with pytest.raises(UserError, match="'z' is not in the vocabulary"):
        tokenizer.encode("abz")


@given(st.text("ab \né🙂"))
def test_characters_come_back(text):
    tokenizer = character_tokenizer("ab \né🙂")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: word_tokenizer(["a", "b", "a"]), "'a' occurs twice"),
        (lambda: word_tokenizer(["<eos>"]), "'<eos>' occurs twice"),
        (lambda: word_tokenizer(["a b"]), "'a b' is not one word"),
        (lambda: word_tokenizer([""]), "'' is not one word"),
        (lambda: character_tokenizer(["ab"]), "'ab' is not one character"),
        (lambda: word_tokenizer("ab").token(5), "no token id 5: the largest is 4"),
        (lambda: word_tokenizer("ab").token(-1), "no token id -1"),
        (lambda: word_tokenizer("ab").token(2**40), "no token id 1099511627776"),
        (lambda: word_tokenizer("ab").chat(TALK, True), "has no chat template"),
        (lambda: character_tokenizer("ab").encode("a\ud800"), "character 2 is half of a surrogate pair"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_ids_beyond_the_vocabulary_have_no_text():
    # Models often have more rows in their embedding than the tokenizer has tokens.
    assert word_tokenizer(["left"]).decode([3, 70]) == "left"


# ---- from a folder


def test_a_folder(tmp_path, qwen_like):
    folder = write(
        tmp_path,
        qwen_like,
        generation={"eos_token_id": [2, 0]},
        eos_token={"content": "<|im_end|>", "lstrip": False},
        pad_token="<|im_start|>",
        chat_template=CHATML,
    )
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_ids, tokenizer.pad_id) == (None, 2, (2, 0), 1)
    assert tokenizer.notes == ()
    assert tokenizer.encode("hello<|im_end|>")[-1] == 2
    assert tokenizer.decode(tokenizer.encode(" naïve\n🙂 ")) == " naïve\n🙂 "
    assert tokenizer.vocab_size == max(json.loads(qwen_like)["model"]["vocab"].values()) + 1


def test_a_length_in_the_file_cuts_nothing(tmp_path, qwen_like):
    # Saved with these on, as many are, the library would cut and pad every text without a word.
    backend = Backend.from_str(qwen_like)
    backend.enable_truncation(2)
    backend.enable_padding(length=20)
    tokenizer = load_tokenizer(write(tmp_path, backend.to_str(), eos_token="<|im_end|>"))
    text = "The quick brown fox"
    assert tokenizer.encode(text) == Backend.from_str(qwen_like).encode(text).ids
    assert len(tokenizer.encode(text)) > 2


def test_what_the_tokenizer_puts_before_a_text(tmp_path, llama_like, qwen_like):
    llama = load_tokenizer(write(tmp_path / "l", llama_like, bos_token="<s>", eos_token="</s>"))
    assert llama.start_ids == (1,) == tuple(llama.encode("hello", special=True)[:1])
    assert llama.encode("hello", special=True)[1:] == llama.encode("hello")
    # What the config says about it does not count where there is a tokenizer.json, in `transformers` too.
    config = dict(bos_token="<|endoftext|>", eos_token="<|im_end|>", add_bos_token=True)
    qwen = load_tokenizer(write(tmp_path / "q", qwen_like, **config))
    assert qwen.start_ids == ()
    assert qwen.encode("hello", special=True) == qwen.encode("hello")


def test_the_template_in_a_file_of_its_own_wins(tmp_path, qwen_like):
    folder = write(tmp_path, qwen_like, eos_token="<|im_end|>", chat_template="inline")
    assert load_tokenizer(folder).chat(TALK, False) == "inline"
    (folder / "chat_template.jinja").write_text("file")
    assert load_tokenizer(folder).chat(TALK, False) == "file"


def test_named_templates(tmp_path, qwen_like):
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, eos_token="<|im_end|>", chat_template=named))
    assert tokenizer.chat(TALK, False) == "plain"
    assert "the chat template 'default' is used, not: tool_use" in tokenizer.notes
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, eos_token="<|im_end|>", chat_template=named[:1]))
    assert tokenizer.template is None
    assert any(
        "no chat template is called 'default' (there is: tool_use)" in note for note in tokenizer.notes
    )
    config = dict(eos_token="<|im_end|>", pad_token="<|im_start|>", chat_template=named[1:])
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, **config))
    assert (tokenizer.template, tokenizer.notes) == ("plain", ())


def test_special_tokens_map(tmp_path, qwen_like):
    folder = write(tmp_path, qwen_like)
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|im_end|>"}}')
    assert load_tokenizer(folder).eos_ids == (2,)


def test_a_named_token_that_is_plain_in_the_vocabulary_becomes_special(tmp_path):
    # `transformers` does so on loading; otherwise its ids would differ from ours.
    folder = write(tmp_path, byte_level(["<|im_end|>"]).to_str(), eos_token="<|im_end|>", pad_token="!")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("a!b")) == "ab"
    assert tokenizer.pad_id == tokenizer.backend.token_to_id("!")


@pytest.mark.parametrize(
    "config",
    [
        {"additional_special_tokens": ["wor", {"content": "as"}, None, "<absent>"]},
        {"extra_special_tokens": {"first": "wor", "second": "as"}},
        {
            "added_tokens_decoder": {
                "9": {"content": "wor", "special": True},
                "8": {"content": "as", "special": 1},
            }
        },
    ],
)
def test_other_special_tokens(tmp_path, qwen_like, config):
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, eos_token="<|im_end|>", **config))
    assert tokenizer.decode(tokenizer.encode("a world as he")) == "a ld  he"
    assert tokenizer.vocab_size == Backend.from_str(qwen_like).get_vocab_size()


def test_added_tokens_may_be_text(tmp_path, qwen_like):
    config = {"added_tokens_decoder": {"9": {"content": "wor", "special": False}, "8": None}}
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, eos_token="<|im_end|>", **config))
    assert tokenizer.decode(tokenizer.encode("world")) == "world"


# ---- PAD and EOS


@pytest.mark.parametrize(
    ("special", "config", "pad", "note"),
    [
        (["<eos>", "<pad>"], {"pad_token": "<pad>"}, "<pad>", None),
        (["<eos>", "<unk>", "[PAD]"], {}, "[PAD]", "no PAD is named: '[PAD]' (2) is used"),
        (["<eos>", "<unk>", "<r>", "<|reserved_0|>", "<|reserved_1|>"], {}, "<|reserved_0|>", "no PAD"),
        (["<eos>", "<|reserved_0|>", "<|right_pad_id|>"], {}, "<|right_pad_id|>", "no PAD"),
        (["<eos>", "<unk>", "<|image_pad|>"], {"pad_token": "<eos>"}, "<unk>", "'<eos>', ends responses"),
        (["<eos>", "<|image_pad|>"], {"pad_token": "<eos>"}, "<|image_pad|>", "ends responses"),
        (["<eos>", "<bos>"], {"bos_token": "<bos>"}, "<bos>", "no PAD is named: '<bos>' (1) is used"),
        (["<eos>", "<reserved>", "<unk>"], {"bos_token": "<reserved>"}, "<unk>", "no PAD"),
        (["<eos>", "<pad>", "<unk>"], {"eos_token": "<pad>"}, "<unk>", "no PAD"),
        (
            ["<eos>", "<else>"],
            {"pad_token": "<nowhere>"},
            "<else>",
            "'<nowhere>' is named as a token but is not in the vocabulary",
        ),
    ],
)
def test_pad_is_a_token_that_ends_nothing(tmp_path, special, config, pad, note):
    tokenizer = load_tokenizer(
        write(tmp_path, byte_level(special).to_str(), **{"eos_token": "<eos>"} | config)
    )
    assert tokenizer.token(tokenizer.pad_id) == pad
    assert tokenizer.pad_id not in tokenizer.eos_ids
    assert (note is None) == (tokenizer.notes == ())
    assert note is None or note in " / ".join(tokenizer.notes)
    assert tokenizer.vocab_size == load_tokenizer(tmp_path, pad_token=pad).vocab_size


def test_a_token_that_may_stand_in_texts_is_no_pad(tmp_path):
    backend = byte_level(["<eos>", "<reserved>"])
    backend.add_tokens(["<pad>"])
    assert load_tokenizer(write(tmp_path, backend.to_str(), eos_token="<eos>")).pad_id == 1


def test_every_end_is_kept_apart_from_pad(tmp_path, qwen_like):
    # Qwen pads with the second of its two ends.
    config = dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>")
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, {"eos_token_id": [2, 0]}, **config))
    assert tokenizer.eos_ids == (2, 0)
    assert tokenizer.pad_id == 1


def test_a_pad_that_is_text_is_not_saved_as_special(tmp_path):
    # GPT-2 has one special token, which is everything; saved as PAD, "!" would split texts elsewhere.
    config = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    tokenizer = load_tokenizer(write(tmp_path, byte_level(["<|endoftext|>"]).to_str(), **config))
    assert tokenizer.pad_id == 1 != tokenizer.eos_id
    assert "masks come from lengths, so this is harmless" in tokenizer.notes[0]
    assert "pad_token" not in json.loads(tokenizer.files()["tokenizer_config.json"])


def test_the_user_names_them(tmp_path, qwen_like):
    folder = write(tmp_path, qwen_like, eos_token="<|endoftext|>")
    tokenizer = load_tokenizer(folder, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    assert (tokenizer.eos_ids, tokenizer.pad_id, tokenizer.notes) == ((2,), 0, ())
    refused(folder, "'<nope>' is not a token", eos_token="<nope>")
    refused(folder, "'<nope>' is not a token", pad_token="<nope>")
    refused(folder, "ends responses and cannot also be PAD", pad_token="<|endoftext|>")


def test_without_eos(tmp_path, qwen_like):
    refused(write(tmp_path, qwen_like), "names no EOS")
    assert load_tokenizer(tmp_path, eos_token="<|im_end|>").eos_ids == (2,)
    tokenizer = load_tokenizer(write(tmp_path, qwen_like, {"eos_token_id": [2, 0, 2]}))
    assert tokenizer.eos_ids == (2, 0)
    note, _ = tokenizer.notes  # the other is on PAD
    assert note == "no EOS is named: '<|im_end|>' (2), which ends the model's generation, is used"
    assert load_tokenizer(write(tmp_path, qwen_like, {"eos_token_id": 2})).eos_ids == (2,)
    refused(write(tmp_path, qwen_like, {"eos_token_id": 4000}), "names no EOS")


def test_without_a_generation_config_the_models_own_ends_count(tmp_path, qwen_like):
    # So does `transformers`, which makes one from config.json.
    folder = write(tmp_path, qwen_like, {})
    (folder / "config.json").write_text('{"eos_token_id": [2, 0]}')
    assert load_tokenizer(folder).eos_ids == (2, 0)
    assert load_tokenizer(write(tmp_path, qwen_like, {"eos_token_id": 0})).eos_ids == (0,)


# ---- files that are not what they should be


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", "is not a tokenizer"),
        ("tokenizer.json", b"\xff", "is not UTF-8"),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "?"}}', "is not a tokenizer"),
        ("tokenizer_config.json", b"{", "is not readable JSON"),
        ("tokenizer_config.json", b"[" * 100000, "is not readable JSON"),
        ("tokenizer_config.json", b"[]", "holds no JSON object"),
        ("tokenizer_config.json", b'{"eos_token": 3}', "names 3 as a special token"),
        ("tokenizer_config.json", b'{"eos_token": "<|im_end|>", "chat_template": 3}', "neither a text nor"),
        ("tokenizer_config.json", b'{"additional_special_tokens": 3}', "in an unknown format"),
        ("generation_config.json", b'{"eos_token_id": "x"}', "eos_token_id = 'x'"),
        ("generation_config.json", b'{"eos_token_id": [2, true]}', "give an id, or a list of ids"),
        ("generation_config.json", b'{"eos_token_id": 4294967296}', "give an id"),
        ("generation_config.json", b'{"eos_token_id": -1}', "give an id"),
    ],
)
def test_a_damaged_file(tmp_path, qwen_like, name, content, message):
    folder = write(tmp_path, qwen_like, eos_token="<|im_end|>")
    (folder / name).write_bytes(content)
    refused(folder, message)


def test_missing_files(tmp_path, qwen_like):
    refused(tmp_path / "nowhere", "tokenizer.json is missing")
    write(tmp_path, qwen_like)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path, eos_token="<|im_end|>").eos_id == 2
    (tmp_path / "tokenizer_config.json").mkdir()
    refused(tmp_path, "cannot be read")


def test_a_panic_of_the_library_is_an_error_of_the_file(tmp_path, qwen_like, capfd):
    # A prefix longer than a merge's second part makes the Rust code slice beyond its end.
    content = json.loads(qwen_like)
    content["model"]["continuing_subword_prefix"] = "x" * 99
    refused(write(tmp_path, json.dumps(content), eos_token="<|im_end|>"), "is not a tokenizer")


def test_nothing_in_the_folder_is_executed(tmp_path, qwen_like):
    mapped = {"AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"]}
    folder = write(tmp_path, qwen_like, eos_token="<|im_end|>", auto_map=mapped, tokenizer_class="Own")
    (folder / "tokenization_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    tokenizer = load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()
    assert b"auto_map" not in tokenizer.files()["tokenizer_config.json"]


# ---- templates


def with_template(template):
    return replace(word_tokenizer(["a"]), template=template)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ clean_up_tokenization_spaces is defined }}", "False"),  # the rest of the config is not theirs
        ("{% if true %}\n  a\n{% endif %}\nb", "  a\nb"),  # blocks take their line break and indentation
        ("{% if true %}\n  {% if true %}a{% endif %}\n{% endif %}", "a"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<é>"}]'),  # not escaped as HTML
        ("{{ {'b': 1, 'a': [2]} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":[2],"b":1}'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "<é>"),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}", "<bos><eos><pad>"),
        ("{{ messages[0].nothing }}{% if tools %}t{% endif %}{% if documents %}d{% endif %}", ""),
        ("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = 5 %}{% endfor %}{{ ns.n }}", "5"),
        ("{{ dict(a=1).a }}{{ add_generation_prompt }}", "1True"),
        ("{{ strftime_now('%Y') | length }}", "4"),
    ],
)
def test_what_templates_expect(template, text):
    assert with_template(template).chat([{"role": "user", "content": "<é>"}], True) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ messages.__class__.__base__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__code__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ dict.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{% set ns = namespace(__call__=1) %}",
        "{% set ns = namespace({'__call__': 1}) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ ''.format_map }}{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
    ],
)
def test_a_template_gets_at_nothing(template):
    with pytest.raises(UserError, match="the chat template is refused") as error:
        with_template(template).chat(TALK, False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for %}", "cannot be read"),
        ("{% nothing %}", "cannot be read"),
        ("{{ messages[0].a.b }}", "has no attribute 'a'"),
        ("{{ raise_exception('no system\nhere') }}", "fails on these messages: no system here"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% include 'other' %}", "fails on these messages"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_template_that_fails(template, message):
    with pytest.raises(UserError, match=message) as error:
        with_template(template).chat(TALK, False)
    assert "\n" not in str(error.value)


def test_messages_are_plain_data():
    with pytest.raises(UserError, match="not JSON serializable"):
        with_template("").chat([{"role": "user", "content": object()}], False)


def test_a_date_is_announced(tmp_path, qwen_like):
    config = dict(eos_token="<|im_end|>", pad_token="<|im_start|>", chat_template="{{ strftime_now('%d') }}")
    assert "today's date" in load_tokenizer(write(tmp_path, qwen_like, **config)).notes[0]


# ---- conversations in pieces


def shown(tokenizer, spans):
    return [(tokenizer.decode(ids, skip_special=False), learn) for ids, learn in spans]


def chatml(folder, backend):
    return load_tokenizer(write(folder, backend, eos_token="<|im_end|>", chat_template=CHATML))


def test_whose_tokens_are_whose(tmp_path, qwen_like):
    tokenizer = chatml(tmp_path, qwen_like)
    spans = tokenizer.chat_spans(TALK)
    assert shown(tokenizer, spans) == [
        ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", False),
        ("world<|im_end|>", True),
        ("\n", False),  # nobody samples what stands behind EOS
        ("<|im_start|>user\nThe fox<|im_end|>\n<|im_start|>assistant\n", False),
        ("jumps<|im_end|>", True),
        ("\n", False),
    ]
    assert [id for ids, _ in spans for id in ids] == tokenizer.encode(tokenizer.chat(TALK, False))


def test_a_prompt_may_hold_answers(tmp_path, qwen_like):
    tokenizer = chatml(tmp_path, qwen_like)
    prompt, answer, _ = tokenizer.chat_spans(TALK, start=3)
    assert prompt == (tokenizer.encode(tokenizer.chat(TALK[:3], True)), False)
    assert shown(tokenizer, [answer]) == [("jumps<|im_end|>", True)]


def test_the_assistant_may_begin(tmp_path, qwen_like):
    tokenizer = chatml(tmp_path, qwen_like)
    first, second, _ = tokenizer.chat_spans(TALK[1:2])
    assert shown(tokenizer, [first, second]) == [
        ("<|im_start|>assistant\n", False),
        ("world<|im_end|>", True),
    ]


def test_what_stands_behind_eos(tmp_path, qwen_like):
    tokenizer = chatml(tmp_path, qwen_like)
    (blank,), hello, start, end = tokenizer.encode("\n\n"), tokenizer.backend.token_to_id("he"), 1, 2
    assert tokenizer.until_eos([hello, end, blank]) == ([hello, end], [blank])
    assert tokenizer.until_eos([end, hello, end]) == ([end, hello, end], [])
    assert tokenizer.until_eos([hello, end, blank, end]) == ([hello, end], [blank, end])
    assert tokenizer.until_eos([hello, end, start], others=[start]) == ([hello, end], [start])
    for other in (start, hello):  # the answer goes on: an EOS that it merely spells out
        assert tokenizer.until_eos([hello, end, other]) == ([hello, end, other], [])
    assert tokenizer.until_eos([hello]) == ([hello], [])


def test_what_follows_the_last_answer(tmp_path, qwen_like):
    tokenizer = chatml(tmp_path, qwen_like)
    assert shown(tokenizer, tokenizer.chat_spans(TALK[:3]))[-1] == (
        "<|im_start|>user\nThe fox<|im_end|>\n",
        False,
    )
    assert [learn for _, learn in tokenizer.chat_spans(TALK[:1])] == [False]


def test_answers_have_the_ids_of_the_whole(tmp_path, llama_like):
    # This tokenizer puts a blank before what it is given: "world" alone is " world", yet after the line
    # break of the prompt there is none.
    config = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=ZEPHYR)
    tokenizer = load_tokenizer(write(tmp_path, llama_like, **config))
    spans = tokenizer.chat_spans(TALK)
    assert [id for ids, _ in spans for id in ids] == tokenizer.encode(tokenizer.chat(TALK, False))
    answer = next(ids for ids, learn in spans if learn)
    assert "".join(tokenizer.token(id) for id in answer) == "world</s>"
    assert tokenizer.token(tokenizer.encode("world")[0]).startswith(chr(0x2581))


def test_no_token_straddles_a_border(tmp_path, qwen_like):
    # "\n\n" is one token. Where an answer begins with a line break, the prompt's own must stay what it
    # is when sampling, so the answer is a text of its own.
    tokenizer = chatml(tmp_path, qwen_like)
    assert len(tokenizer.encode("\n\n")) == 1
    talk = [TALK[0], {"role": "assistant", "content": "\nworld"}]
    prompt, answer, _ = tokenizer.chat_spans(talk)
    assert prompt[0] == tokenizer.encode(tokenizer.chat(talk[:1], True))
    assert answer[0] == tokenizer.encode("\nworld<|im_end|>")


def test_an_unknown_word_is_not_lost_at_a_border():
    # Written together the border is inside a word, and both halves are unknown: the second would vanish.
    tokenizer = word_tokenizer(["hello"], unknown="<unk>")
    tokenizer = replace(tokenizer, template="{% for m in messages %}{{ m.content }}{% endfor %}")
    talk = [{"role": "user", "content": "hello x"}, {"role": "assistant", "content": "y"}]
    assert tokenizer.chat_spans(talk) == [([4, 3], False), ([3], True)]


# ---- the same in `transformers`


@pytest.fixture(scope="module")
def auto():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained


CASES = {
    "words": lambda folder, q, m: word_tokenizer(["hello", "world"], unknown="<unk>"),
    "characters": lambda folder, q, m: character_tokenizer(sorted({*"".join(TEXTS)})),
    "byte level": lambda folder, q, m: chatml(folder, q),
    "plain PAD": lambda folder, q, m: load_tokenizer(
        write(folder, q, eos_token="<|im_end|>", pad_token="er")
    ),
    "blank first": lambda folder, q, m: load_tokenizer(
        write(folder, m, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=ZEPHYR)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_the_same_ids(case, tmp_path, auto, qwen_like, llama_like):
    tokenizer = CASES[case](tmp_path / "from", qwen_like, llama_like)
    folder = saved(tmp_path / "saved", tokenizer)
    theirs = auto(folder)
    for text in TEXTS:
        for special in (False, True):
            ids = tokenizer.encode(text, special)
            assert theirs(text, add_special_tokens=special)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids, skip_special=False)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    named = (theirs.eos_token_id, theirs.bos_token_id, theirs.pad_token_id)
    assert named == (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id)
    assert len(theirs) == tokenizer.vocab_size
    if tokenizer.template is not None:
        for prompt in (False, True):
            text = theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=prompt)
            assert text == tokenizer.chat(TALK, prompt)


@pytest.mark.parametrize("case", CASES)
def test_saved_is_what_was_loaded(case, tmp_path, qwen_like, llama_like):
    tokenizer = CASES[case](tmp_path / "from", qwen_like, llama_like)
    again = load_tokenizer(saved(tmp_path / "saved", tokenizer))
    assert again.files() == tokenizer.files()
    assert (again.bos_id, again.eos_ids, again.pad_id) == (
        tokenizer.bos_id,
        tokenizer.eos_ids,
        tokenizer.pad_id,
    )


@pytest.mark.parametrize("options", [{}, {"add_bos_token": True}, {"pad_token": "wor"}])
def test_ids_are_those_that_transformers_reads_from_the_original(options, tmp_path, auto, qwen_like):
    config = dict(eos_token="<|im_end|>", bos_token="<|endoftext|>", chat_template=CHATML)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    folder = write(tmp_path, qwen_like, **config, **options)
    ours, theirs = load_tokenizer(folder), auto(folder)
    for text in TEXTS:
        for special in (False, True):
            assert theirs(text, add_special_tokens=special)["input_ids"] == ours.encode(text, special)
