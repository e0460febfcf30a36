"""Records of training data, as ids, and everything that can be wrong with them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from proximo.errors import UserError
from proximo.language.text.data import read_preferences, read_prompts, read_training_texts
from proximo.language.text.tokenizer import word_tokenizer

WORDS = ["a", "b", "c", "d", "e", "f", "user:", "assistant:", "system:", ";"]
# <pad> 0, <eos> 1, <bos> 2, a 3, b 4, c 5, d 6, e 7, f 8, user: 9, assistant: 10, system: 11, ; 12
PLAIN = word_tokenizer(WORDS)
CHAT = replace(
    PLAIN,
    template=(
        "{% for m in messages %}{{ m.role }}: {{ m.content }} "
        "{{ '<eos> ' if m.role == 'assistant' else '; ' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    ),
)
USER, ASSISTANT, END, EOS = 9, 10, 12, 1


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def write(folder, *records):
    lines = (record if isinstance(record, bytes) else json.dumps(record).encode() for record in records)
    path = folder / "data.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def texts(*records, tokenizer=CHAT, length=99, **options):
    return read_training_texts(records, tokenizer, length, **options)


def shown(text):
    """Ids, those that carry loss as negative numbers."""
    return [-id if learn else id for id, learn in zip(text.ids.tolist(), text.learn.tolist(), strict=True)]


def refused(message, read, *arguments, **options):
    with pytest.raises(UserError, match=message) as error:
        read(*arguments, **options)
    assert "\n" not in str(error.value)


# ---- what to imitate


def test_a_text_is_learned_whole_but_for_its_first_token():
    (text,) = texts({"text": "a b c"}).records
    assert shown(text) == [3, -4, -5, -EOS]
    assert (text.ids.dtype, text.learn.dtype) == (np.int32, bool)


def test_a_completion_is_learned_and_its_prompt_is_not():
    record = {"prompt": "a b", "completion": "c"}
    assert shown(texts(record).records[0]) == [3, 4, -5, -EOS]
    assert shown(texts(record, completion_only=False).records[0]) == [3, -4, -5, -EOS]


def test_in_a_conversation_the_assistant_is_learned():
    record = {"messages": [user("a"), assistant("b"), user("c"), assistant("d e")]}
    first, second = [USER, 3, END, ASSISTANT, -4, -EOS], [USER, 5, END, ASSISTANT, -6, -7, -EOS]
    assert shown(texts(record).records[0]) == first + second
    everything = [-abs(id) for id in first + second]
    assert shown(texts(record, completion_only=False).records[0]) == [USER, *everything[1:]]


def test_who_learns_everything_needs_no_split():
    # Each text is counted here, so that where an answer stands cannot be told.
    counted = CHAT.template.replace("{{ m.content }}", "{{ m.content | length * 'f ' }}{{ m.content }}")
    tokenizer = replace(CHAT, template=counted)
    record = {"messages": [user("a"), assistant("b"), user("c"), assistant("d")]}
    first, second = [USER, -8, -3, -END, -ASSISTANT, -8, -4, -EOS], [-USER, -8, -5, -END, -ASSISTANT, -8, -6]
    (text,) = texts(record, tokenizer=tokenizer, completion_only=False).records
    assert shown(text) == [*first, *second, -EOS]
    # But this one forgets all but the last two messages.
    tokenizer = replace(CHAT, template=CHAT.template.replace("in messages", "in messages[-2:]"))
    for completion_only in (True, False):
        options = dict(tokenizer=tokenizer, completion_only=completion_only)
        refused(
            "record 1: .* leaves out \"content\" of message 2, 'b', if messages follow",
            texts,
            record,
            **options,
        )


def test_what_follows_the_last_answer_teaches_nothing():
    record = {"messages": [user("a"), assistant("b"), user("c")]}
    assert shown(texts(record).records[0]) == [USER, 3, END, ASSISTANT, -4, -EOS]


def test_of_a_prompt_in_messages_nothing_is_learned():
    record = {"prompt": [user("a"), assistant("b"), user("c")], "completion": [assistant("d")]}
    prompt = [USER, 3, END, ASSISTANT, 4, EOS, USER, 5, END, ASSISTANT]
    assert shown(texts(record).records[0]) == [*prompt, -6, -EOS]


def test_a_completion_may_have_turns_of_others():
    record = {"prompt": [user("a")], "completion": [assistant("b"), user("c"), assistant("d")]}
    expected = [USER, 3, END, ASSISTANT, -4, -EOS, USER, 5, END, ASSISTANT, -6, -EOS]
    assert shown(texts(record).records[0]) == expected


def test_eos_stands_once():
    # A text that brings its own EOS gets no second; a blank behind it goes, nobody samples that.
    assert shown(texts({"text": "a <eos>"}).records[0]) == [3, -EOS]
    assert shown(texts({"prompt": "a", "completion": "b<eos> "}).records[0]) == [3, -4, -EOS]
    open_ended = replace(PLAIN, template="{% for m in messages %}{{ m.content }} {% endfor %}")
    record = {"messages": [user("a"), assistant("b")]}
    assert shown(texts(record, tokenizer=open_ended).records[0]) == [3, -4, -EOS]


def test_a_prompt_and_its_completion_are_two_texts():
    # As one text, "a" and "b" would be the word "ab"; and a prompt is all that a model is given.
    tokenizer = word_tokenizer(["a", "b", "ab"])
    (text,) = texts({"prompt": "a", "completion": "b"}, tokenizer=tokenizer).records
    assert shown(text) == [3, -4, -EOS]


def with_start():
    """A tokenizer that puts BOS before every text, as that of Llama does."""
    from tokenizers import processors

    tokenizer = word_tokenizer(WORDS)
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        ["<bos>", "$A"], special_tokens=[("<bos>", 2)]
    )
    return replace(tokenizer, template="<bos> " + CHAT.template)


def test_what_the_tokenizer_puts_before_a_text_stands_once():
    tokenizer = with_start()
    assert shown(texts({"text": "a"}, tokenizer=tokenizer).records[0]) == [2, -3, -EOS]
    assert shown(texts({"text": "<bos> a"}, tokenizer=tokenizer).records[0]) == [2, -3, -EOS]
    record = {"prompt": "a", "completion": "b"}
    assert shown(texts(record, tokenizer=tokenizer).records[0]) == [2, 3, -4, -EOS]
    record = {"prompt": [user("a")], "completion": [assistant("b")]}  # here the template writes it
    assert shown(texts(record, tokenizer=tokenizer).records[0])[:3] == [2, USER, 3]
    (prompt,) = read_prompts([{"prompt": "a"}], tokenizer, 9).records
    assert prompt.ids.tolist() == [2, 3]


# ---- what to answer


def test_prompts_keep_their_columns(tmp_path):
    path = write(tmp_path, {"prompt": "a b", "answer": 7}, {"prompt": "c", "answer": [1], "hint": "x"})
    first, second = read_prompts(path, PLAIN, 9).records
    assert (first.ids.tolist(), first.text) == ([3, 4], "a b")
    # Reward functions get whole columns, so every record has all of them.
    assert first.columns == {"answer": 7, "hint": None}
    assert second.columns == {"answer": [1], "hint": "x"}


def test_a_prompt_in_messages_ends_where_the_answer_begins():
    (prompt,) = read_prompts([{"prompt": [user("a")], "completion": "kept"}], CHAT, 9).records
    assert prompt.text == "user: a ; assistant: "
    assert prompt.ids.tolist() == [USER, 3, END, ASSISTANT]
    assert prompt.columns == {"completion": "kept"}


@pytest.mark.parametrize("tokenizer", [CHAT, with_start()], ids=["plain", "with BOS"])
@pytest.mark.parametrize("prompt", ["a b", [user("a")], [user("a"), assistant("b"), user("c")]])
def test_a_prompt_has_the_same_ids_wherever_it_is_read(tokenizer, prompt):
    # What sampling starts from is what the training of policy and reward model has seen.
    answer, other = ("c", "d") if isinstance(prompt, str) else ([assistant("c")], [assistant("d")])
    ids = read_prompts([{"prompt": prompt}], tokenizer, 99).records[0].ids.tolist()
    (text,) = texts({"prompt": prompt, "completion": answer}, tokenizer=tokenizer).records
    assert text.ids[~text.learn].tolist() == ids
    record = {"prompt": prompt, "chosen": answer, "rejected": other}
    (preference,) = read_preferences([record], tokenizer, 99).records
    assert preference.prompt_ids.tolist() == ids
    assert [*ids, *preference.chosen_ids.tolist()] == text.ids.tolist()


# ---- which answer is better


def test_preferences(tmp_path):
    path = write(
        tmp_path,
        {"prompt": "a", "chosen": "b c", "rejected": "d"},
        b"",
        {"prompt": "a", "chosen": "b", "rejected": "c", "margin": -2, "who": "x"},
    )
    first, second = read_preferences(path, PLAIN, 9).records
    assert first.prompt_ids.tolist() == [3]
    assert (first.chosen_ids.tolist(), first.rejected_ids.tolist()) == ([4, 5, EOS], [6, EOS])
    assert (first.margin, second.margin) == (0.0, -2.0)


def test_preferences_in_messages_end_with_eos():
    # The score of a reward model stands on the last token, which is EOS here and where it is sampled.
    template = CHAT.template.replace("<eos> ", "<eos> \n ")
    record = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c d")]}
    (one,) = read_preferences([record], replace(PLAIN, template=template), 9).records
    assert one.prompt_ids.tolist() == [USER, 3, END, ASSISTANT]
    assert (one.chosen_ids.tolist(), one.rejected_ids.tolist()) == ([4, EOS], [5, 6, EOS])


def test_a_prompt_that_the_template_writes_anew_for_each_answer_is_refused():
    template = "{{ 'c ' if messages[-1].content[0] == 'b' }}" + CHAT.template
    record = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("d")]}
    message = "record 1: the chat template writes another prompt before each answer: give text instead"
    refused(message, read_preferences, [record], replace(PLAIN, template=template), 99)


# ---- too long


def test_answers_are_cut_and_counted():
    # "a | b c d <eos>" has 5 tokens. Cut to 3 it loses its EOS: it did not end there.
    found = texts({"prompt": "a", "completion": "b c d"}, {"prompt": "a", "completion": "b"}, length=3)
    assert [shown(text) for text in found.records] == [[3, -4, -5], [3, -4, -EOS]]
    assert (found.truncated, found.dropped) == (1, 0)
    records = [{"prompt": "a", "chosen": "b c d", "rejected": "e"}]
    found = read_preferences(records, PLAIN, 3)
    assert (found.truncated, found.records[0].chosen_ids.tolist()) == (1, [4, 5])
    assert found.records[0].rejected_ids.tolist() == [7, EOS]


def test_what_fits_exactly_is_not_cut():
    found = texts({"text": "a b c"}, length=4)
    assert (found.truncated, len(found.records[0].ids)) == (0, 4)
    assert len(read_prompts([{"prompt": "a b c"}], PLAIN, 3).records[0].ids) == 3


LONG = {"prompt": "a b c d", "completion": "e"}
SAME_START = {"prompt": "a", "chosen": "b c d", "rejected": "b c e"}


@pytest.mark.parametrize(
    ("read", "record", "length", "message"),
    [
        (read_training_texts, LONG, 4, "has 4 tokens before the answer; the maximum is 4"),
        (read_prompts, LONG, 3, "has 4 tokens; the maximum is 3"),
        (read_preferences, LONG | {"chosen": "e", "rejected": "f"}, 4, 'has 4 tokens in "prompt" alone'),
        (read_preferences, SAME_START, 3, "are the same within the 3 tokens that fit"),
    ],
)
def test_prompts_are_not_cut(read, record, length, message):
    short = {"prompt": "a", "completion": "e", "chosen": "e", "rejected": "f"}
    advice = "longer prompts or shorter answers" if read is read_prompts else "allow more"
    refused(f"record 2: .*{message}.*{advice}.*overlong .drop", read, [short, record], PLAIN, length)
    found = read([short, record], PLAIN, length, overlong="drop")
    assert (len(found.records), found.dropped, found.truncated) == (1, 1, 0)
    refused(
        r"the list of records holds only .* too long \(1\)", read, [record], PLAIN, length, overlong="drop"
    )


def test_nothing_is_cut_on_demand():
    record = {"prompt": "a", "completion": "b c d"}
    refused("record 1: has 5 tokens; the maximum is 3", texts, record, length=3, overlong="refuse")
    found = texts(record, {"prompt": "a", "completion": "b"}, length=3, overlong="drop")
    assert (len(found.records), found.dropped, found.truncated) == (1, 1, 0)


# ---- records that are wrong

GOOD = {
    read_training_texts: {"prompt": "a", "completion": "b"},
    read_prompts: {"prompt": "a"},
    read_preferences: {"prompt": "a", "chosen": "b", "rejected": "c"},
}
WRONG = [
    (read_prompts, b"{", "is not JSON"),
    (read_prompts, b"[1,", "a JSON array is not JSON lines"),
    (read_prompts, b"[" * 100000, "is not JSON"),
    (read_prompts, b'{"prompt": "\xff"}', "is not UTF-8"),
    (read_prompts, b"[1]", "is of type list: write one object per line"),
    (read_prompts, b"3", "is of type int"),
    (read_prompts, {}, 'has no column, and needs "prompt"'),
    (read_prompts, {"promt": "a"}, 'has "promt", and needs "prompt"'),
    (read_prompts, {"prompt": ""}, '"prompt" is empty'),
    (read_prompts, {"prompt": " "}, "has no token"),
    (read_prompts, {"prompt": None}, 'has no column, and needs "prompt"'),
    (read_prompts, {"prompt": 3}, '"prompt" is of type int'),
    (read_prompts, {"prompt": "a z"}, "'z' is not in the vocabulary"),
    (read_prompts, {"prompt": "a \ud800"}, "character 3 is half of a surrogate pair"),
    (read_prompts, {"prompt": []}, '"prompt" has no message'),
    (read_prompts, {"prompt": ["a"]}, 'message 1 of "prompt" is of type str'),
    (read_prompts, {"prompt": [{"content": "a"}]}, 'message 1 of "prompt" has no "role"'),
    (read_prompts, {"prompt": [user("a"), user(None)]}, '"content" of message 2 of "prompt" is missing'),
    (read_prompts, {"prompt": [user(3)]}, '"content" of message 1 of "prompt" is of type int'),
    (read_prompts, {"prompt": "a", "completions": 1}, 'a column "completions", a name that reward functions'),
    (read_training_texts, {"prompt": "a"}, 'needs "text" or "messages" or "prompt" . "completion"'),
    (read_training_texts, {"text": "a", "messages": []}, "must have exactly one of"),
    (read_training_texts, {"text": ["a"]}, '"text" is of type list: give text'),
    (read_training_texts, {"messages": "a"}, '"messages" is of type str: give a list of messages'),
    (read_training_texts, {"messages": [user("a")]}, 'no message of the "assistant"'),
    (
        read_training_texts,
        {"messages": [user("a"), assistant("")]},
        '"content" of message 2 of "messages" is empty',
    ),
    (read_training_texts, {"prompt": "a", "completion": ""}, '"completion" is empty'),
    (read_training_texts, {"prompt": "a", "completion": [assistant("b")]}, "mixes text and messages"),
    (read_training_texts, {"prompt": [user("a")], "completion": [user("b")]}, "begins with 'user'"),
    (read_training_texts, {"text": "a"}, "is text as text, but .* 1 is prompt . completion as text"),
    (read_training_texts, {"prompt": [user("a")], "completion": [assistant("b")]}, "keep one kind per file"),
    (read_preferences, {"prompt": "a", "chosen": "b"}, 'needs "prompt" . "chosen" . "rejected" or "chosen"'),
    (read_preferences, GOOD[read_preferences] | {"rejected": "b"}, "are the same: remove the record"),
    (read_preferences, GOOD[read_preferences] | {"margin": float("nan")}, '"margin" is nan'),
    (read_preferences, GOOD[read_preferences] | {"margin": 10**400}, "give a finite number"),
    (read_preferences, GOOD[read_preferences] | {"margin": "2"}, "\"margin\" is '2'"),
    (read_preferences, GOOD[read_preferences] | {"margin": True}, '"margin" is True'),
    (
        read_preferences,
        {"prompt": [user("a")], "chosen": [assistant("b"), user("c")], "rejected": [assistant("c")]},
        '"chosen" must be one message of the "assistant"',
    ),
]


@pytest.mark.parametrize(("read", "record", "message"), WRONG)
def test_a_wrong_record_is_named_with_its_line(tmp_path, read, record, message):
    path = write(tmp_path, GOOD[read], b"  ", record)
    refused(f"^{path}, line 3: .*{message}", read, path, CHAT, 99)


@pytest.mark.parametrize(("read", "record", "message"), [w for w in WRONG if not isinstance(w[1], bytes)])
def test_a_wrong_record_of_a_list_is_named_with_its_number(read, record, message):
    refused(f"^record 2: .*{message}", read, [GOOD[read], record], CHAT, 99)


def test_a_template_can_refuse_a_record(tmp_path):
    tokenizer = replace(PLAIN, template="{{ raise_exception('roles must alternate') }}")
    path = write(tmp_path, {"prompt": [user("a")]})
    refused(f"^{path}, line 1: .*roles must alternate", read_prompts, path, tokenizer, 9)
    refused("line 1: the tokenizer has no chat template", read_prompts, path, PLAIN, 9)


def test_a_template_that_says_nothing_of_the_assistant():
    tokenizer = replace(
        PLAIN, template="{% for m in messages %}{{ m.content if m.role == 'user' }} {% endfor %}"
    )
    record = {"messages": [user("a"), assistant("b")]}
    refused(
        "record 1: the chat template leaves out \"content\" of message 2, 'b'",
        texts,
        record,
        tokenizer=tokenizer,
    )


def test_a_template_that_says_nothing_of_the_prompt():
    tokenizer = replace(
        PLAIN, template="{% for m in messages %}{{ m.content if m.role == 'assistant' }}{% endfor %}"
    )
    record = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]}
    refused("record 1: .* writes nothing before the answer", read_preferences, [record], tokenizer, 9)
    refused(r'record 1: .* leaves out "content" of message 1 \(user\)', read_prompts, [record], tokenizer, 9)


def test_ids_beyond_a_reward_model():
    # The tokenizer has 13 ids; a model with fewer rows would look beyond the end of its embedding.
    record = {"prompt": "a", "chosen": ";", "rejected": "b"}
    assert read_preferences([record], PLAIN, 9, vocabulary=13)
    message = "record 1: token id 12 is none of the model's 12: use its own tokenizer"
    refused(message, read_preferences, [record], PLAIN, 9, vocabulary=12)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file(tmp_path, content):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    refused(f"{path} holds no record", read_prompts, path, PLAIN, 9)
    refused("the list of records holds no record", read_prompts, [], PLAIN, 9)


def test_a_file_that_cannot_be_read(tmp_path):
    refused("nowhere cannot be read", read_prompts, tmp_path / "nowhere", PLAIN, 9)
    refused("cannot be read", read_prompts, str(tmp_path), PLAIN, 9)
    refused("record 1: is of type str: give a dict", read_prompts, ["a"], PLAIN, 9)


def test_files_as_they_come(tmp_path):
    # A byte order mark, Windows line ends, no line end at the end, a separator of Unicode inside a line.
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b\xe2\x80\xa8c"}')
    assert [prompt.ids.tolist() for prompt in read_prompts(path, PLAIN, 9).records] == [[3], [4, 5]]
