"""Records in the shapes of public data sets, and tables' nulls: small literal ones."""

from dataclasses import replace

import pytest
from test_chat_records import CALL, LETTERS, LLAMA_3, LLAMA_3_1, learned, speaking
from test_data import CHAT, PLAIN, assistant, refused, shown, texts, user, write

from proximo.language.text.data import read_preferences, read_prompts
from proximo.language.text.tokenizer import word_tokenizer


def pair(record, tokenizer=LETTERS, length=999):
    """A preference as texts: prompt, chosen, rejected."""
    (one,) = read_preferences([record], tokenizer, length).records
    ids = one.prompt_ids, one.chosen_ids, one.rejected_ids
    return tuple(tokenizer.decode(part, skip_special=False) for part in ids)


# ---- nulls


def test_null_is_absent():
    # As tables write them: a column of each kind, and a key of each message, filled up with nulls.
    turns = [
        {"role": "user", "content": "1?", "tool_calls": None, "name": None},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": None}], "name": None},
        {"role": "tool", "content": "1", "tool_calls": None, "weight": None},
        {"role": "assistant", "content": "one", "tool_calls": None, "reasoning_content": None},
    ]
    bare = [user("1?"), {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}]
    nulls = {"text": None, "prompt": None, "completion": None, "tools": None, "images": None, "label": None}
    assert learned(LLAMA_3_1, *turns, **nulls) == learned(LLAMA_3_1, *bare, assistant("one"))
    assert shown(texts({"messages": None, "text": "a b"}).records[0]) == [3, -4, -1]


def test_a_null_margin_is_none():
    records = [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": margin} for margin in (None, 2)]
    assert [one.margin for one in read_preferences(records, PLAIN, 9).records] == [0.0, 2.0]


def test_reward_functions_get_nulls_as_they_are(tmp_path):
    records = [{"prompt": "a", "hint": None, "meta": {"x": None}}, {"prompt": "b", "hint": None}]
    first, second = read_prompts(write(tmp_path, *records), PLAIN, 9).records
    assert first.columns == {"hint": None, "meta": {"x": None}}
    assert second.columns == {"hint": None, "meta": None}


# ---- conversations


def test_sharegpt_is_a_conversation():
    turns = [
        {"from": "system", "value": "s", "weight": None},
        {"from": "human", "value": "a", "weight": 0},
        {"from": "gpt", "value": "b", "weight": 1},
    ]
    expected = learned(LLAMA_3, {"role": "system", "content": "s"}, user("a"), assistant("b"))
    (text,) = texts({"conversations": turns}, tokenizer=speaking(LLAMA_3)).records
    assert LETTERS.decode(text.ids, skip_special=False) == expected[0]
    assert learned(LLAMA_3, *turns) == expected
    (text,) = texts({"conversations": [user("a"), assistant("b")]}).records
    assert shown(text) == shown(texts({"messages": [user("a"), assistant("b")]}).records[0])


def test_a_speaker_who_is_not_known_is_named():
    record = {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "b"}]}
    refused('"from" of message 2 of "messages" is \'function_call\': take one of human, ', texts, record)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"instruction": "a", "input": "", "output": "b"},
            'write "instruction" and "input" as one "prompt"',
        ),
        ({"question": "a", "answer": "b"}, 'rename "question" to "prompt", and "answer" to "completion"'),
        ({"query": "a", "response": "b"}, 'rename "query" to "prompt"'),
    ],
)
def test_columns_by_other_names_are_told_how_to_be_called(record, message):
    refused(message, texts, record)


# ---- preferences


def test_preferences_without_a_prompt_have_the_messages_that_both_begin_with():
    talk = [{"role": "system", "content": "s"}, user("a")]
    record = {"chosen": [*talk, assistant("b")], "rejected": [*talk, assistant("c")], "score_chosen": 5.0}
    explicit = {"prompt": talk, "chosen": [assistant("b")], "rejected": [assistant("c")]}
    assert pair(record, speaking(LLAMA_3)) == pair(explicit, speaking(LLAMA_3))
    # UltraFeedback has the prompt as text too, and answers that repeat it.
    for prompt in ("a", None):
        assert pair(record | {"prompt": prompt}, speaking(LLAMA_3)) == pair(explicit, speaking(LLAMA_3))
    assert pair(record | {"prompt": talk}, speaking(LLAMA_3)) == pair(explicit, speaking(LLAMA_3))
    found = read_preferences([record | {"prompt_id": "x", "messages": talk}], speaking(LLAMA_3), 99)
    (note,) = found.notes("f")
    assert note == "f: columns that nothing reads: score_chosen, prompt_id, messages (1 record)"


def test_texts_of_human_and_assistant_are_split_behind_the_last_turn():
    talk = "\n\nHuman: a?\n\nAssistant: b\n\nHuman: c?\n\nAssistant:"
    record = {"chosen": f"{talk} I do", "rejected": f"{talk} I do not"}
    assert pair(record) == (talk, " I do<eos>", " I do not<eos>")


def test_texts_without_turns_are_split_behind_the_last_token_that_both_have():
    # "ab" and "ac" begin with the same letter, but not with the same token.
    tokenizer = word_tokenizer(["q", "a", "ab", "ac", "d"])
    record = {"chosen": "q q ab", "rejected": "q q ac d"}
    assert pair(record, tokenizer) == ("q q", "ab <eos>", "ac d <eos>")
    assert pair({"chosen": "so it is", "rejected": "so it was"}) == ("so it ", "is<eos>", "was<eos>")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"chosen": "a", "rejected": "b"}, "have no common beginning to use as prompt: give .prompt."),
        ({"question": "q", "chosen": "a b", "rejected": "a c"}, 'has "question" but no "prompt": rename it'),
        ({"system": "s", "chosen": "a b", "rejected": "a c"}, 'has "system" but no "prompt"'),
        ({"chosen": "a b", "rejected": "a"}, "only the common beginning of both"),
        (
            {"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("b")]},
            "no common first message",
        ),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("a")]}, "differ only in length"),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("b")]}, "are the same"),
        (
            {"chosen": [user("a"), assistant("b"), user("c")], "rejected": [user("a"), assistant("d")]},
            '"chosen" must be one message of the "assistant"',
        ),
        (
            {"prompt": "d", "chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]},
            '"prompt" is text, but no message of both',
        ),
        ({"prompt": "a", "chosen": [assistant("b")], "rejected": "c"}, "mixes text and messages"),
        (
            {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]},
            "no common first message",
        ),
    ],
)
def test_preferences_that_share_no_prompt_are_refused(record, message):
    refused(message, read_preferences, [record], CHAT, 99)


def test_answers_that_all_repeat_their_prompt_lose_it():
    records = [
        {"prompt": "q: a\n", "chosen": "q: a\nb", "rejected": "q: a\nc"},
        {"prompt": "q: d\n", "chosen": "q: d\ne", "rejected": "q: d\nf", "who": "x"},
    ]
    found = read_preferences(records, LETTERS, 99)
    assert [LETTERS.decode(one.chosen_ids) for one in found.records] == ["b", "e"]
    assert found.notes("f") == (
        "f: all answers repeat their prompt, which is removed from them (2 records)",
        "f: columns that nothing reads: who (1 record)",
    )
    # One of several may begin with its prompt by chance: Hello, says who is greeted.
    hello = {"prompt": "hi", "chosen": "hi there", "rejected": "hi."}
    found = read_preferences([hello, {"prompt": "ho", "chosen": "a", "rejected": "b"}], LETTERS, 99)
    assert LETTERS.decode(found.records[0].chosen_ids) == "hi there" and found.notes("f") == ()
    # To learn to repeat is a task like any other.
    (text,) = texts({"prompt": "ab", "completion": "abab"}, tokenizer=LETTERS).records
    assert LETTERS.decode(text.ids[text.learn], skip_special=False) == "abab<eos>"
    talk = [user("a"), assistant("b"), user("c")]
    (text,) = texts({"prompt": talk, "completion": [*talk, assistant("d")]}).records
    assert shown(text) == shown(texts({"prompt": talk, "completion": [assistant("d")]}).records[0])


def test_records_may_come_from_where_they_come_once():
    records = iter([{"prompt": "q ", "chosen": "q a", "rejected": "q b"}])
    assert read_preferences(records, replace(LETTERS), 9).records


# ---- leaving records out

WRONG = [
    {"prompt": "a", "chosen": "b", "rejected": "b"},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"prompt": "", "chosen": "b", "rejected": "c"},
    {"prompt": "a", "chosen": "c", "rejected": "c"},
    {"prompt": "a b c d e", "chosen": "f", "rejected": "e"},
]


def test_records_that_are_wrong_are_left_out_on_demand_and_counted():
    refused('record 1: "chosen" and "rejected" are the same', read_preferences, WRONG, PLAIN, 5, "drop")
    found = read_preferences(WRONG, PLAIN, 5, "drop", invalid="drop")
    assert [one.rejected_ids.tolist() for one in found.records] == [[5, 1]]
    assert (found.dropped, found.invalid) == (
        1,
        {'"chosen" and "rejected" are the same': 2, '"prompt" is empty': 1},
    )
    assert found.notes("f") == (
        "f: 0 records truncated, 1 dropped as too long",
        'f: 3 records dropped as invalid: "chosen" and "rejected" are the same (2); "prompt" is empty (1)',
    )


def test_what_is_wrong_alike_is_one_reason():
    records = [{"messages": [*[user("a")] * count, assistant("")]} for count in (1, 2, 3)]
    found = texts(*records, {"messages": [user("a"), assistant("b")]}, invalid="drop")
    assert found.invalid == {'"content" of message N of "messages" is empty': 3}


def test_not_everything_is_left_out():
    bad = WRONG[:1] * 7
    refused(
        'the list of records holds only invalid records: "chosen" and "rejected" are the same .7.',
        read_preferences,
        bad,
        PLAIN,
        5,
        invalid="drop",
    )
    refused(
        r"only records that are too long \(1\).*; and invalid records: .* .1.",
        read_preferences,
        [WRONG[0], WRONG[4]],
        PLAIN,
        5,
        "drop",
        invalid="drop",
    )


def test_faults_of_a_file_are_refused_nevertheless(tmp_path):
    path = write(tmp_path, {"prompt": "a"}, b'{"prompt": ')
    refused("line 2: is not JSON", read_prompts, path, PLAIN, 9, invalid="drop")
    two = {"text": "a b"}, {"prompt": "a", "completion": "b"}
    refused("record 2: .*keep one kind per file", texts, *two, invalid="drop")
