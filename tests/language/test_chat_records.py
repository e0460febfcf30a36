"""What a chat template makes of a record: nothing that the user wrote is lost without a word."""

import json
from dataclasses import replace

import pytest
from test_data import ASSISTANT, CHAT, EOS, PLAIN, USER, assistant, refused, shown, texts, user

from proximo.language.text.data import read_preferences, read_prompts
from proximo.language.text.tokenizer import character_tokenizer

LETTERS = character_tokenizer(map(chr, [10, *range(32, 127)]))

LLAMA_3 = (  # as the first one of Llama 3: no tools, every content is trimmed
    "{% for message in messages %}{{ '[' + message['role'] + ']\n' + message['content'] | trim + '<eos>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
LLAMA_3_1 = (  # counts the calls, and writes one of them
    "{% if tools %}[system]\n{{ tools | tojson }}<eos>{% endif %}"
    "{% for message in messages %}[{{ message.role }}]\n"
    "{% if 'tool_calls' in message %}{% if message.tool_calls | length != 1 %}"
    "{{ raise_exception('one call at once') }}{% endif %}{{ message.tool_calls[0].function | tojson }}"
    "{% else %}{{ message.content | trim }}{% endif %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
QWEN_3 = (  # reasoning of the last answer alone; `enable_thinking` false asks for none
    "{% for message in messages %}"
    "{% set content = message.content if message.content is string else '' %}"
    "{% set reasoning = message.reasoning_content or '' %}"
    "{% if '</think>' in content %}{% set reasoning = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "[{{ message.role }}]\n{% if message.role == 'assistant' and loop.last %}"
    "<think>{{ reasoning }}</think>{% endif %}{{ content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)
R1 = (  # no reasoning at all
    "{% for message in messages %}[{{ message.role }}]\n{{ message.content.split('</think>')[-1] }}<eos>"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"x": {"type": "integer"}}}}


def speaking(template):
    return replace(LETTERS, template=template)


def learned(template, *messages, **columns):
    """What a template makes of a conversation, and what of it is learned."""
    tokenizer = speaking(template)
    (text,) = texts({"messages": messages, **columns}, tokenizer=tokenizer, length=999).records
    return tuple(tokenizer.decode(ids, skip_special=False) for ids in (text.ids, text.ids[text.learn]))


def parts(*contents):
    return [{"type": "text", "text": content} for content in contents]


# ---- what is learned is what was given


@pytest.mark.parametrize("template", [LLAMA_3, QWEN_3])
def test_content_in_parts_of_text_is_one_text(template):
    # One template would write the list as Python does, another one nothing at all.
    given = user(parts("one ", "two")), assistant(parts("three"))
    assert learned(template, *given) == learned(template, user("one two"), assistant("three"))
    whole, answer = learned(template, *given)
    assert "[user]\none two<eos>" in whole and answer.endswith("three<eos>")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "of type image_url"),
        ({"type": "image"}, "of type image"),
        ({"text": "a"}, "untyped"),
        ({"type": "text"}, "of type text"),
        ("a", "of type str"),
    ],
)
def test_other_parts_are_refused_by_name(part, said):
    record = {"messages": [user([*parts("a"), part]), assistant("b")]}
    refused(f'part 2 of "content" of message 1 of "messages" is {said}: only', texts, record)


def test_content_that_is_null_is_not_the_word_none():
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert learned(LLAMA_3_1, user("1?"), call)[1] == '{"name": "add", "arguments": {"x": 1}}<eos>'
    record = {"messages": [user("1?"), call]}
    message = "leaves out a tool call of message 2, 'add': use a template that writes it"
    refused(message, texts, record, tokenizer=speaking(LLAMA_3))
    said = {"role": "assistant", "content": "I add.", "tool_calls": [{"function": {"name": "add"}}]}
    message = 'leaves out "tool_calls" of message 2'  # whose name stands in what is said
    refused(message, texts, {"messages": [user("1?"), said]}, tokenizer=speaking(LLAMA_3))
    # Llama 3.1 writes the call and forgets what was said with it.
    record = {"messages": [user("1?"), said]}
    refused('leaves out "content" of message 2', texts, record, tokenizer=speaking(LLAMA_3_1))
    # In a prompt nothing is learned, and the model is to know of the call nevertheless.
    asked = {"prompt": [user("1?"), call, {"role": "tool", "content": "1"}]}
    refused('leaves out "tool_calls" of message 2', read_prompts, [asked], speaking(LLAMA_3), 99)


def test_reasoning_is_learned_or_refused():
    thought = {"role": "assistant", "content": "3", "reasoning_content": "1 + 2"}
    assert learned(QWEN_3, user("?"), thought)[1] == "<think>1 + 2</think>3<eos>"
    inside = assistant("<think>1 + 2</think>3")
    assert learned(QWEN_3, user("?"), inside)[1] == "<think>1 + 2</think>3<eos>"
    for template, message in ((LLAMA_3, thought), (R1, thought), (R1, inside)):
        for completion_only in (True, False):
            refused(
                'leaves out "(reasoning_)?content" of message 2',
                texts,
                {"messages": [user("?"), message]},
                tokenizer=speaking(template),
                completion_only=completion_only,
            )
    # Who writes it into the text learns it wherever the template does not look for it.
    assert learned(LLAMA_3, user("?"), inside)[1] == "<think>1 + 2</think>3<eos>"


def test_a_prompt_may_be_without_earlier_reasoning():
    # That is how the model will be prompted, and nothing of it is learned.
    prompt = [user("?"), assistant("<think>1</think>2"), user("!")]
    for template in (R1, QWEN_3):
        (asked,) = read_prompts([{"prompt": prompt}], speaking(template), 99).records
        assert asked.text == "[user]\n?<eos>[assistant]\n2<eos>[user]\n!<eos>[assistant]\n"
        record = {"prompt": prompt, "completion": [assistant("3")]}
        assert texts(record, tokenizer=speaking(template), length=99).notes("f") == ()
    record = {"messages": [*prompt, assistant("4")]}
    refused("give each answer its own record", texts, record, tokenizer=speaking(QWEN_3))


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_a_message_that_is_left_out_is_named(role):
    template = LLAMA_3.replace("in messages", f"in messages if message.role != '{role}'")
    message = {"role": role, "content": "a"}
    prompt = [message, user("b")] if role != "user" else [message, {"role": "tool", "content": "b"}]
    for read, record in (
        (read_prompts, {"prompt": prompt}),
        (read_preferences, {"prompt": prompt, "chosen": [assistant("c")], "rejected": [assistant("d")]}),
    ):
        message = rf'leaves out "content" of message 1 \({role}\): use a template that writes it'
        refused(message, read, [record], speaking(template), 99)


# ---- keys and columns


def test_tools_reach_the_template():
    prompt = {"prompt": [user("1?")], "tools": [TOOL], "level": 3}
    (read,) = read_prompts([prompt], speaking(LLAMA_3_1), 999).records
    assert read.text.startswith('[system]\n[{"type": "function", "function": {"name": "add"')
    assert read.columns == {"tools": [TOOL], "level": 3}
    whole, answer = learned(LLAMA_3_1, user("1?"), assistant("2"), tools=[TOOL])
    assert whole == f"{read.text}2<eos>" and answer == "2<eos>"
    pair = prompt | {"chosen": [assistant("2")], "rejected": [assistant("3")]}
    (preference,) = read_preferences([pair], speaking(LLAMA_3_1), 999).records
    assert preference.prompt_ids.tolist() == read.ids.tolist()


def test_tools_may_be_json_as_text_and_filled_up_with_nulls():
    # Tables have one type to a column, so that they keep such things as text, or with a null for every key.
    filled = {"type": "function", "strict": None, "function": {**TOOL["function"], "description": None}}
    expected = learned(LLAMA_3_1, user("1?"), assistant("2"), tools=[TOOL])
    assert learned(LLAMA_3_1, user("1?"), assistant("2"), tools=[filled]) == expected
    assert learned(LLAMA_3_1, user("1?"), assistant("2"), tools=json.dumps([TOOL])) == expected


def test_names_of_the_template_are_heard():
    prompt = [user("?")]
    plain, without = (
        read_prompts([{"prompt": prompt, **more}], speaking(QWEN_3), 99).records[0].text
        for more in ({}, {"chat_template_kwargs": {"enable_thinking": False}})
    )
    assert (plain, without) == ("[user]\n?<eos>[assistant]\n", "[user]\n?<eos>[assistant]\n<think></think>")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tools": [TOOL]}, 'the chat template does not write "tools"'),
        ({"tools": {"a": 1}}, '"tools" must be a list of objects'),
        ({"tools": "[{]"}, '"tools" is text that is not JSON'),
        ({"chat_template_kwargs": {"enable_thinkin": False}}, 'does not read "enable_thinkin"'),
        ({"chat_template_kwargs": ["a"]}, '"chat_template_kwargs" is of type list: give an object'),
        ({"chat_template_kwargs": {"messages": []}}, 'has "messages", which cannot be set there'),
        ({"images": ["x.png"]}, 'has "images", and this is a model of texts'),
        ({"videos": ["x"]}, 'has "videos"'),
        ({"audio": "x"}, 'has "audio"'),
    ],
)
def test_columns_that_would_be_passed_over_are_refused(columns, message):
    tokenizer = speaking(QWEN_3)
    turns = {"messages": [user("?"), assistant("a")], **columns}
    refused(f"record 1: .*{message}", texts, turns, tokenizer=tokenizer)
    refused(f"record 1: .*{message}", read_prompts, [{"prompt": [user("?")], **columns}], tokenizer, 99)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a", "completion": "b", "label": False}, r'"label" of unpaired preferences \(KTO\)'),
        ({"prompt": "a", "completion": "b", "label": True}, "keep the good answers without the column"),
        ({"prompt": "a", "completion": "b", "kto_tag": 0}, '"kto_tag" of unpaired preferences'),
        ({"text": "a b", "weight": 0.5}, 'has "weight": records have no weights'),
        ({"text": "a b", "train": False}, 'has "train": records have no weights'),
        ({"text": "a b", "tools": [TOOL]}, 'has "tools", which only chat templates read'),
        ({"prompt": "a", "completion": "b", "chat_template_kwargs": {"a": 1}}, "give messages instead"),
        ({"text": "a b", "image": "x.png"}, 'has "image", and this is a model of texts'),
        (
            {"messages": [{**user("a"), "images": ["x"]}, assistant("b")]},
            'message 1 of "messages" has "images"',
        ),
        (
            {"messages": [user("a"), {**assistant("b"), "function_call": {"name": "f"}}]},
            'message 2 of "messages" has a "function_call": write it as "tool_calls"',
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(record, message):
    refused(f"record 1: .*{message}", texts, record)


def test_empty_images_are_none():
    assert texts({"text": "a b", "images": []}).records


def test_columns_that_nothing_reads_are_named_once():
    found = texts(*[{"text": "a b", "id": 3, "source": "x", "empty": None}] * 2)
    assert found.notes("data.jsonl") == ("data.jsonl: columns that nothing reads: id, source (2 records)",)
    # Reward functions get all of them.
    assert read_prompts([{"prompt": "a", "id": 3}], PLAIN, 9).notes("data.jsonl") == ()


def test_keys_of_messages_that_the_template_does_not_read_are_named_once():
    turns = {"messages": [{**user("a"), "name": "Ann"}, {**assistant("b"), "score": 3, "tool_call_id": "c"}]}
    assert texts(turns, turns).notes("f") == (
        'f: the chat template does not read "name" of messages (2 records)',
        'f: the chat template does not read "score" of messages (2 records)',
    )
    reading = replace(
        CHAT, template="{% for m in messages if m.name or m.score %}{% endfor %}" + CHAT.template
    )
    assert texts(turns, tokenizer=reading).notes("f") == ()


# ---- messages without loss


@pytest.mark.parametrize("key", ["weight", "train", "trainable", "loss_mask", "loss"])
@pytest.mark.parametrize("no", [0, 0.0, False])
def test_a_message_of_weight_0_carries_no_loss(key, no):
    first = {**assistant("b"), key: no}
    found = texts({"messages": [user("a"), first, user("c"), {**assistant("d"), key: 1}]})
    assert shown(found.records[0]) == [
        USER, 3, 12, ASSISTANT, 4, EOS, USER, 5, 12, ASSISTANT, -6, -EOS,
    ]  # fmt: skip
    assert found.notes("f") == ()
    # Nothing behind the last message that is learned is needed.
    last = texts({"messages": [user("a"), assistant("b"), user("c"), {**assistant("d"), key: no}]})
    assert shown(last.records[0]) == [USER, 3, 12, ASSISTANT, -4, -EOS]


def test_turns_of_a_completion_have_weights_too():
    record = {
        "prompt": [user("a")],
        "completion": [{**assistant("b"), "weight": 0}, user("c"), assistant("d")],
    }
    assert [id for id in shown(texts(record).records[0]) if id < 0] == [-6, -EOS]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([user("a"), {**assistant("b"), "weight": 0.5}], '"weight" of message 2 .* is 0.5: give 0 .* or 1'),
        ([user("a"), {**assistant("b"), "weight": "0"}], "is '0': give 0"),
        ([user("a"), {**assistant("b"), "weight": [0, 1]}], "is .0, 1.: give 0"),
        ([{**user("a"), "train": True}, assistant("b")], 'only the "assistant" is trained on'),
        (
            [user("a"), {**assistant("b"), "weight": 0, "train": True}],
            "weight and train, which contradict each other",
        ),
        ([user("a"), {**assistant("b"), "weight": 0}], '"messages" has no answer to train on'),
    ],
)
def test_weights_that_cannot_be_are_refused(messages, message):
    refused(message, texts, {"messages": messages})


def test_weights_where_everything_is_learned_are_refused():
    record = {"messages": [user("a"), {**assistant("b"), "weight": 0}, user("c"), assistant("d")]}
    refused("weight 0, but completion_only is false", texts, record, completion_only=False)
    pair = {"prompt": [user("a")], "chosen": [{**assistant("b"), "weight": 0}], "rejected": [assistant("c")]}
    refused('"chosen" has weight 0', read_preferences, [pair], CHAT, 9)


# ---- a conversation that begins with the assistant


def test_a_conversation_that_begins_with_the_assistant_is_written_whole():
    record = {"messages": [assistant("a"), user("b"), assistant("c")]}
    found = texts(record)
    assert shown(found.records[0]) == [ASSISTANT, 3, EOS, USER, 4, 12, ASSISTANT, -5, -EOS]
    assert found.notes("f") == (
        "f: the conversation begins with the assistant, and this message is not trained on (1 record)",
    )
    assert shown(texts(record, completion_only=False).records[0])[1:3] == [-3, -EOS]


def test_an_assistant_whom_nobody_asked_has_nothing_to_teach():
    for messages in ([assistant("a")], [assistant("a"), user("b")], [assistant("a"), assistant("b")]):
        refused('"messages" has no answer to train on .*nothing before it', texts, {"messages": messages})
    # A system's message is something to answer.
    record = {"messages": [{"role": "system", "content": "a"}, assistant("b")]}
    assert shown(texts(record).records[0]) == [11, 3, 12, ASSISTANT, -4, -EOS]


# ---- an answer that has begun


@pytest.mark.parametrize(
    ("template", "content", "text"),
    [
        (LLAMA_3, "so ", "[user]\n?<eos>[assistant]\nso"),  # it trims, as the answer will begin
        (QWEN_3, "so ", "[user]\n?<eos>[assistant]\n<think></think>so "),
        (LLAMA_3_1, "to be continued", "[user]\n?<eos>[assistant]\nto be continued"),
        (LLAMA_3, parts("s", "o"), "[user]\n?<eos>[assistant]\nso"),
    ],
)
def test_a_prompt_that_ends_with_the_assistant_is_continued(template, content, text):
    (prompt,) = read_prompts([{"prompt": [user("?"), assistant(content)]}], speaking(template), 99).records
    assert prompt.text == text and speaking(template).decode(prompt.ids, skip_special=False) == text


def test_what_continues_a_prompt_is_learned_as_its_continuation():
    prompt = [user("?"), assistant("so it")]
    (asked,) = read_prompts([{"prompt": prompt}], speaking(LLAMA_3), 99).records
    record = {"prompt": prompt, "completion": [assistant(" is")]}
    (text,) = texts(record, tokenizer=speaking(LLAMA_3)).records
    assert text.ids[~text.learn].tolist() == asked.ids.tolist()
    assert LETTERS.decode(text.ids[text.learn], skip_special=False) == " is<eos>"
    pair = {"prompt": prompt, "chosen": [assistant(" is")], "rejected": [assistant(" was")]}
    (preference,) = read_preferences([pair], speaking(LLAMA_3), 99).records
    assert preference.prompt_ids.tolist() == asked.ids.tolist()
    assert LETTERS.decode(preference.rejected_ids, skip_special=False) == " was<eos>"
    longer = {"prompt": prompt, "completion": [assistant("a"), user("b"), assistant("c")]}
    refused("the answer must be one message", texts, longer, tokenizer=speaking(LLAMA_3))


@pytest.mark.parametrize("template", [LLAMA_3, LLAMA_3_1, QWEN_3], ids=["3", "3.1", "qwen"])
@pytest.mark.parametrize("content", ["so", " so it \n", "<think>so", "x</think>so "])
def test_it_is_continued_as_transformers_does(template, content):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=LETTERS.backend)
    prompt = [user("?"), assistant("a"), user("!"), assistant(content)]
    text = theirs.apply_chat_template(
        prompt, chat_template=template, continue_final_message=True, tokenize=False
    )
    assert read_prompts([{"prompt": prompt}], speaking(template), 99).records[0].text == text


def test_an_answer_whose_beginning_is_left_out_cannot_be_continued():
    for content in ("x</think>so", "x</think>"):
        record = {"prompt": [user("?"), assistant(content)]}
        refused("leaves out the start of the last message", read_prompts, [record], speaking(R1), 99)


def test_tools_are_written_as_transformers_writes_them():
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=LETTERS.backend)
    options = dict(chat_template=LLAMA_3_1, tools=[TOOL], add_generation_prompt=True, tokenize=False)
    text = theirs.apply_chat_template([user("1?")], **options)
    record = {"prompt": [user("1?")], "tools": [TOOL]}
    assert read_prompts([record], speaking(LLAMA_3_1), 999).records[0].text == text


def test_weights_are_heard_where_the_template_marks_answers():
    marked = (
        "{% for m in messages %}[{{ m.role }}]\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "<eos>{% endgeneration %}{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    turns = [{**user("a"), "weight": 0}, {**assistant("b"), "weight": 0}, user("c"), assistant("d")]
    assert learned(marked, *turns)[1] == "d<eos>"
