"""Conversations of which every answer is found, or the record refused: marks, prefixes, places."""

import itertools
import re
from dataclasses import replace

import pytest
from small_tokenizers import CHATML, byte_level, sentencepiece, write

from proximo.errors import UserError
from proximo.language.text.data import read_preferences, read_prompts, read_training_texts
from proximo.language.text.tokenizer import character_tokenizer, load_tokenizer

# As of Qwen 3: answers before the last question lose their reasoning; the last has an empty one at least.
REASONING = """\
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {%- set content = m.content if m.content is string else '' %}
        {%- set reasoning = m.reasoning_content or '' %}
        {%- if not reasoning and '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1] %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<think>\n' + reasoning | trim + '\n</think>\n\n' + content | trim }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {%- for call in m.tool_calls or [] %}
            {{- '\n' if content or not loop.first }}
            {{- '<tool_call>\n' + call.function | tojson + '\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
# As of R1's small models: reasoning is dropped from every answer, but prompts for one end within it.
DROPPING = """\
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {{- '<|assistant|>' + m.content.split('</think>')[-1] + '<|im_end|>' }}
    {%- else %}{{ '<|user|>' + m.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}
"""
# As of Phi-3 with a second end behind the whole conversation.
CLOSING = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|im_end|>' }}{% endif %}
"""
MARKED = """\
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' }}
    {%- if m.role == 'assistant' %}
        {%- generation %}{{ m.content.split('</think>')[-1] + '<|im_end|>' }}{% endgeneration %}
    {%- else %}{{ m.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
# As of TRL's for training Qwen 2.5: the line break before an answer is marked, though it prompts for one.
PROMPT_MARKED = MARKED.replace("{%- generation %}{{ m", "{%- generation %}{{ '\n' + m").replace(
    "m.role + '\n' }}", "m.role }}{{ '\n' if m.role != 'assistant' }}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>"]


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def silent(messages, place):
    """The same where one message is not to be learned."""
    return [*messages[:place], {**messages[place], "weight": 0}, *messages[place + 1 :]]


TALK = [user("hello"), assistant("world"), user("the fox"), assistant("the dog")]


@pytest.fixture(scope="module")
def backend():
    return byte_level(SPECIAL).to_str()


@pytest.fixture
def made(tmp_path, backend):
    """A tokenizer with a template."""

    def make(template, eos_token="<|im_end|>", **options):
        folder = write(tmp_path / "it", backend, eos_token=eos_token, chat_template=template)
        return load_tokenizer(folder, **options)

    return make


def learned(tokenizer, messages, **options):
    """The texts that are learned."""
    spans = tokenizer.chat_spans(messages, **options)
    text = "".join(tokenizer.decode(ids, skip_special=False) for ids, _ in spans)
    assert text == tokenizer.chat(messages, False)  # nothing is left out
    return [tokenizer.decode(ids, skip_special=False) for ids, learn in spans if learn]


def refused(message, read, *arguments, **options):
    with pytest.raises(UserError, match=message) as error:
        read(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- templates that write earlier turns differently


def test_answers_in_turns_that_are_rewritten(made):
    # The first answer has lost the empty reasoning that the last has: no prefix of one is the other.
    tokenizer = made(REASONING)
    assert learned(tokenizer, TALK) == ["world<|im_end|>", "<think>\n\n</think>\n\nthe dog<|im_end|>"]
    assert learned(tokenizer, TALK[:2]) == ["<think>\n\n</think>\n\nworld<|im_end|>"]
    reasoned = [*TALK[:3], assistant("<think>\nhm\n</think>\n\nthe dog")]
    assert learned(tokenizer, reasoned)[1] == "<think>\nhm\n</think>\n\nthe dog<|im_end|>"
    reasoned = [*TALK[:3], assistant("the dog", reasoning_content="hm")]
    assert learned(tokenizer, reasoned)[1] == "<think>\nhm\n</think>\n\nthe dog<|im_end|>"


def test_what_was_trained_behind_is_what_is_prompted_with(made):
    tokenizer = made(REASONING)
    (text,) = read_training_texts([{"prompt": TALK[:3], "completion": TALK[3:]}], tokenizer, 999).records
    (prompt,) = read_prompts([{"prompt": TALK[:3]}], tokenizer, 999).records
    assert text.ids[~text.learn].tolist() == prompt.ids.tolist()
    (whole,) = read_training_texts([{"messages": TALK}], tokenizer, 999).records
    assert whole.ids[: len(prompt.ids)].tolist() == prompt.ids.tolist()


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"place": "string"}}}]
WITH_TOOLS = [
    user("hello"),
    assistant("", tool_calls=[call("weather", place="the fox"), call("weather", place="the dog")]),
    {"role": "tool", "content": "brown"},
    assistant("so", tool_calls=[call("weather", place="world")]),
    {"role": "tool", "content": "lazy"},
    assistant("brown, lazy"),
]
FIRST_CALLS = """\
<tool_call>
{"name": "weather", "arguments": {"place": "the fox"}}
</tool_call>
<tool_call>
{"name": "weather", "arguments": {"place": "the dog"}}
</tool_call><|im_end|>"""
SECOND_CALL = """\
so
<tool_call>
{"name": "weather", "arguments": {"place": "world"}}
</tool_call><|im_end|>"""


@pytest.mark.parametrize("nothing", ["", None])
def test_calls_of_tools_are_learned_and_their_results_are_not(made, nothing):
    messages = [{**message, "content": message["content"] or nothing} for message in WITH_TOOLS]
    last = "<think>\n\n</think>\n\nbrown, lazy<|im_end|>"
    tokenizer = replace(made(REASONING), names={"tools": TOOLS})
    assert learned(tokenizer, messages) == [FIRST_CALLS, SECOND_CALL, last]
    assert learned(tokenizer, messages, start=5) == [last]
    assert learned(tokenizer, silent(messages, 1)) == [SECOND_CALL, last]


# As of Qwen 3.5: a prompt has reasoning begun, and earlier answers have none; calls are tags, not JSON.
THINKING = """\
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' }}
    {%- if m.role == 'assistant' and loop.last %}
        {%- set reasoning = m.content.split('</think>')[0].split('<think>\n')[-1] %}
        {{- '<think>\n' + reasoning + '</think>\n\n' if '</think>' in m.content }}
    {%- endif %}
    {{- (m.content or '').split('</think>')[-1] | trim }}
    {%- for call in m.tool_calls %}{{ '<call><name=' + call.function.name + '>' }}
        {%- for key, value in call.function.arguments.items() %}{{ '<' + key + '>' + value }}{% endfor %}
        {{- '</call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}
"""


def test_a_call_is_learned_from_its_first_tag_on(made):
    # What prompts for an answer stands there in part only: as much of it as does is not learned.
    tokenizer = made(THINKING)
    first = "<call><name=weather><place>the fox</call><call><name=weather><place>the dog</call><|im_end|>"
    second = "so<call><name=weather><place>world</call><|im_end|>"
    assert learned(tokenizer, WITH_TOOLS) == [first, second, "brown, lazy<|im_end|>"]
    reasoned = [*TALK[:3], assistant("<think>\nhm\n</think>\n\nthe dog")]
    assert learned(tokenizer, reasoned) == ["world<|im_end|>", "hm\n</think>\n\nthe dog<|im_end|>"]


def test_where_a_call_begins_is_not_guessed(made):
    # Behind <|assistant|>, though a prompt goes on from there; but not where nothing of a prompt is written.
    calls = "{% for call in m.tool_calls %}{{ '<call><name=' + call.function.name + '>' }}{% endfor %}"
    calling = DROPPING.replace("+ '<|im_end|>' }}", "}}" + calls + "{{ '<|im_end|>' }}")
    talk = [user("hello"), assistant("", tool_calls=[call("weather")]), user("so"), assistant("brown")]
    expected = ["<call><name=weather><|im_end|>", "brown<|im_end|>"]
    assert learned(made(calling), talk) == expected
    other = made(calling.replace("{{ '<|assistant|><think>", "{{ '<|user|><think>"))
    refused("where message 2 stands in what the chat template writes cannot be told", other.chat_spans, talk)
    assert learned(other, [user("hello"), assistant("brown")]) == ["brown<|im_end|>"]


def test_short_answers_are_not_taken_for_other_text(made):
    # All of these stand elsewhere too: in roles, in questions, in each other.
    messages = [user("us"), assistant("us"), user("im_end a"), assistant("a"), user("s"), assistant("user")]
    last = "<think>\n\n</think>\n\nuser<|im_end|>"
    assert learned(made(REASONING), messages) == ["us<|im_end|>", "a<|im_end|>", last]
    quoted = [user("<|im_start|>assistant\nus"), assistant("us <|im_start|>assistant\nus"), *messages[4:]]
    assert learned(made(REASONING), quoted) == ["us <|im_start|>assistant\nus<|im_end|>", last]


def test_an_end_that_only_the_last_answer_has(made):
    # <|end|> ends every answer, the last one has another end behind it: nobody samples more than the first.
    tokenizer = made(CLOSING, eos_token="<|end|>")
    assert learned(tokenizer, TALK) == ["world<|end|>", "the dog<|end|>"]
    (one,) = read_training_texts([{"messages": TALK}], tokenizer, 999).records
    assert tokenizer.decode(one.ids[-4:], skip_special=False).count("<|end|>") == 1 == (one.ids[-1] == 5)


def test_an_answer_in_one_turn_that_is_prompted_for_otherwise(made):
    tokenizer = made(DROPPING)
    assert learned(tokenizer, TALK) == ["world<|im_end|>", "the dog<|im_end|>"]
    assert learned(tokenizer, TALK[:2]) == ["world<|im_end|>"]
    record = {"prompt": TALK[:1], "chosen": [assistant("world")], "rejected": [assistant("dog")]}
    (one,) = read_preferences([record], tokenizer, 999).records
    assert tokenizer.decode(one.prompt_ids, skip_special=False) == "<|user|>hello<|assistant|>"
    assert tokenizer.decode(one.chosen_ids, skip_special=False) == "world<|im_end|>"


@pytest.mark.parametrize(
    ("template", "answers"),
    [
        ("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", ["world", "the dog"]),
        (
            "{% for m in messages %}{{ m.content }}|{% endfor %}{{ 'go' if add_generation_prompt }}",
            ["world|", "the dog|"],
        ),
        ("{{ messages | map(attribute='content') | join(', ') }}.", ["world", "the dog."]),
    ],
)
def test_other_templates_that_look_at_the_whole(template, answers):
    tokenizer = replace(character_tokenizer(map(chr, range(32, 127))), template=template)
    assert learned(tokenizer, TALK) == answers


def test_the_assistant_may_begin_though_the_template_takes_no_empty_conversation(made):
    tokenizer = made("{{ '' if messages[0].role else '' }}" + REASONING)
    assert learned(tokenizer, TALK[1:]) == ["world<|im_end|>", "<think>\n\n</think>\n\nthe dog<|im_end|>"]
    assert learned(tokenizer, TALK[1:3]) == ["world<|im_end|>"]


def test_answers_of_sentencepiece_have_the_ids_of_the_whole(tmp_path):
    folder = write(tmp_path, sentencepiece().to_str(), eos_token="</s>", unk_token="<unk>")
    template = (
        "{{ messages | length }}\n{% for m in messages %}|{{ m.role }}|\n{{ m.content }}</s>\n{% endfor %}"
    )
    tokenizer = replace(load_tokenizer(folder), template=template)
    talk = [user("the sky"), assistant("blue"), user("is"), assistant(" blue sky")]
    spans = tokenizer.chat_spans(talk)
    assert [id for ids, _ in spans for id in ids] == tokenizer.encode(tokenizer.chat(talk, False))
    tokens = [[tokenizer.token(id) for id in ids] for ids, learn in spans if learn]
    assert tokens == [["blue", "</s>"], ["▁blue", "▁sky", "</s>"]]


# ---- what the template leaves out


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (
            DROPPING,
            [user("a"), assistant("<think>hm</think>b")],
            "\"content\" of message 2, '<think>hm</think>b'",
        ),
        (REASONING, [user("a"), assistant("b", reasoning="hm")], "\"reasoning\" of message 2, 'hm'"),
        (CHATML, [user("a"), assistant("b", reasoning_content="hm")], '"reasoning_content" of message 2'),
        (
            CHATML,
            [user("a"), assistant("b", tool_calls=[call("weather")])],
            "a tool call of message 2, 'weather'",
        ),
        (CHATML.replace("message.content", "''"), TALK, "\"content\" of message 2, 'world'"),
        (MARKED, [user("a"), assistant("<think>hm</think>b")], '"content" of message 2'),
        (
            "{% for m in messages %}{{ m.content or m.tool_calls[0].function.name }}{% endfor %}",
            [user("a"), assistant("", tool_calls=[call("weather", place="x")])],
            "an argument of a tool call of message 2, 'place'",
        ),
    ],
)
def test_nothing_of_an_answer_is_left_out_in_silence(made, template, messages, message):
    tokenizer = made(template)
    advice = r"use a template that writes it \(--chat-template\), or remove it"
    text = f"record 1: the chat template leaves out {re.escape(message)}.*: {advice}"
    for completion_only in (True, False):
        read = dict(completion_only=completion_only)
        refused(text, read_training_texts, [{"messages": messages}], tokenizer, 999, **read)
    preference = {"prompt": messages[:1], "chosen": messages[1:2], "rejected": [assistant("c")]}
    refused(text, read_preferences, [preference], tokenizer, 999)


def test_what_is_left_out_is_missed_though_others_say_the_same(made):
    # The question, the list of tools and the template's own words have all of it.
    words = "{{ 'hm' if not messages[0].said }}{{ tools | tojson if tools }}"
    asked = [user("weather at this place?"), assistant("", tool_calls=[call("weather", place="x")])]
    for template in (words + MARKED, words + CHATML):
        tokenizer = made(template)
        told = replace(tokenizer, names={"tools": TOOLS})
        refused("leaves out a tool call of message 2", told.chat_spans, asked)
        reasoned = [user("hm"), assistant("b", reasoning_content="hm")]
        refused('leaves out "reasoning_content" of message 2', tokenizer.chat_spans, reasoned)
    # What is written and not marked is not left out.
    unmarked = MARKED.replace("{%- generation", "{{- m.reasoning_content }}{%- generation")
    assert learned(made(unmarked), reasoned) == ["b<|im_end|>"]


def test_a_template_that_keeps_reasoning_mends_it(made, tmp_path):
    keeping = DROPPING.replace(".split('</think>')[-1]", "")
    talk = [user("a"), assistant("<think>\nhm</think>b"), user("c"), assistant("<think>\nso</think>d")]
    assert learned(made(keeping), talk) == ["hm</think>b<|im_end|>", "so</think>d<|im_end|>"]


def test_reasoning_of_earlier_turns_is_learned_in_records_of_their_own(made):
    # What the message advises, followed.
    tokenizer = made(REASONING)
    talk = [user("a"), assistant("<think>hm</think>b"), user("c"), assistant("<think>so</think>d")]
    said = refused('leaves out "content" of message 2', tokenizer.chat_spans, talk)
    assert "if messages follow: give each answer its own record, with the messages before" in said
    records = [{"prompt": talk[:end], "completion": talk[end : end + 1]} for end in (1, 3)]
    found = read_training_texts(records, tokenizer, 999).records
    assert [tokenizer.decode(one.ids[one.learn], skip_special=False) for one in found] == [
        "<think>\nhm\n</think>\n\nb<|im_end|>",
        "<think>\nso\n</think>\n\nd<|im_end|>",
    ]


# ---- where nothing can be told


UNCLEAR = "{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}"


def test_an_answer_that_cannot_be_found_is_refused_and_the_advice_is_true():
    # A length before each text: what the template writes depends on what is looked for.
    tokenizer = replace(
        character_tokenizer(map(chr, range(32, 127))), template=UNCLEAR + "{{ messages | length }}"
    )
    said = refused("where message 2 stands .* cannot be told", tokenizer.chat_spans, TALK)
    assert "give prompt and completion as text, or a template that marks what the assistant writes" in said
    marks = "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
    marked = tokenizer.template.replace("{{ m.content }}", marks + "{{ m.content }}{% endif %}")
    assert learned(replace(tokenizer, template=marked), TALK) == ["world", "the dog"]
    record = {"prompt": "5hello5", "completion": "world"}
    (text,) = read_training_texts([record], tokenizer, 999).records
    assert tokenizer.decode(text.ids[text.learn]) == "world"


# ---- marks


def transformers_mask(tokenizer, messages):
    """What `transformers` learns of a conversation: its ids, and 1 for each that is marked."""
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend)
    return theirs.apply_chat_template(
        messages,
        chat_template=tokenizer.template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )


@pytest.mark.parametrize(
    "template",
    [
        MARKED,
        MARKED.replace("+ '<|im_end|>' }}{% endgen", "}}{% endgen").replace(
            "{{- '\n' }}", "{{- '<|im_end|>\n' if m.role == 'assistant' else '\n' }}"
        ),
        MARKED.replace("{{ m.content.split", "{{ '<think>\n\n</think>\n\n' }}{{ m.content.split"),
        # Two marks in one answer, and one for the last answer alone.
        MARKED.replace("{% endgeneration", "{% endgeneration %}so{% generation %}!{% endgeneration"),
        MARKED.replace("{%- if m.role", "{%- if loop.last and m.role"),
        MARKED.replace("{%- generation %}", "{%- generation -%}  "),
        # What prompts for an answer, and what stands behind its end.
        PROMPT_MARKED,
        MARKED.replace("'<|im_end|>' }}{% endgen", "'<|im_end|>\n' }}{% endgen").replace(
            "{{- '\n' }}", "{{- '\n' if m.role != 'assistant' }}"
        ),
    ],
)
def test_marks_say_what_is_learned_as_in_transformers(made, template):
    tokenizer = made(template)
    spans = tokenizer.chat_spans(TALK)
    theirs = transformers_mask(tokenizer, TALK)
    assert [id for ids, _ in spans for id in ids] == theirs["input_ids"]
    mask = theirs["assistant_masks"]
    for place, (last, id) in enumerate(itertools.pairwise(theirs["input_ids"]), 1):
        if last == tokenizer.eos_id and id == tokenizer.backend.token_to_id(
            "Ċ"
        ):  # a line break that nobody samples
            mask[place] = 0
    assert [int(learn) for ids, learn in spans for _ in ids] == mask
    assert 0 < sum(mask) < len(mask)


def test_of_a_marked_prompt_nothing_is_learned(made):
    tokenizer = made(MARKED)
    assert learned(tokenizer, TALK, start=3) == learned(tokenizer, silent(TALK, 1)) == ["the dog<|im_end|>"]
    prompt, *_ = tokenizer.chat_spans(TALK, start=3)
    assert prompt == (tokenizer.encode(tokenizer.chat(TALK[:3], True)), False)
    # The mark begins behind what follows the prompt: for preferences that is part of the answers.
    thinking = MARKED.replace("{%- generation %}", "{{- '<think>\n\n</think>\n\n' }}{%- generation %}")
    tokenizer = made(thinking)
    record = {"prompt": TALK[:1], "chosen": [assistant("world")], "rejected": [assistant("dog")]}
    (one,) = read_preferences([record], tokenizer, 999).records
    (prompt,) = read_prompts([{"prompt": TALK[:1]}], tokenizer, 999).records
    assert one.prompt_ids.tolist() == prompt.ids.tolist()
    assert tokenizer.decode(one.chosen_ids, skip_special=False) == "<think>\n\n</think>\n\nworld<|im_end|>"


def test_a_marked_answer_ends_once(made):
    # As of TRL's template for training Phi-3: the end of the whole conversation is marked as well.
    marks = MARKED.replace("<|im_end|>", "<|end|>").replace(
        "'<|end|>' }}{% endgen", "'<|end|>\n' }}{% endgen"
    )
    tokenizer = made(marks + "{% generation %}{{ '<|im_end|>' }}{% endgeneration %}", eos_token="<|end|>")
    assert learned(tokenizer, TALK[:2]) == ["world<|end|>", "<|im_end|>"]
    touching = marks.replace("{{- '\n' }}", "{{- '' if loop.last and m.role == 'assistant' else '\n' }}")
    touching = touching.replace(
        "{%- if add", "{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{%- if add"
    )
    assert learned(made(touching, eos_token="<|end|>"), TALK) == ["world<|end|>", "the dog<|end|>"]


def test_what_prompts_for_an_answer_is_no_part_of_it_though_it_is_marked(made):
    tokenizer = made(PROMPT_MARKED)
    record = {"prompt": TALK[:3], "completion": TALK[3:]}
    (text,) = read_training_texts([record], tokenizer, 999).records
    (prompt,) = read_prompts([{"prompt": TALK[:3]}], tokenizer, 999).records
    assert text.ids[~text.learn].tolist() == prompt.ids.tolist()
    assert tokenizer.decode(text.ids[text.learn], skip_special=False) == "the dog<|im_end|>"


def test_marks_that_mark_nothing(made):
    tokenizer = made(
        MARKED.replace("{%- generation %}", "{%- generation %}{% endgeneration %}")
        .replace("{% endgeneration %}{%- else", "{%- else")
        .replace("'<|im_end|>' }}{% endgeneration %}", "'<|im_end|>' }}")
    )
    refused("marks nothing as the assistant's: use one that does", tokenizer.chat_spans, TALK)


def test_a_mark_leaves_the_text_alone(made):
    tokenizer = made(MARKED)
    assert "\ufdd0" not in tokenizer.chat(TALK, False)
    with pytest.raises(UserError, match="the chat template changes the text that it marks"):
        tokenizer.chat_spans([user("a\ufdd0"), assistant("b")])


# ---- what is said of a template


def test_an_end_of_the_template_that_is_not_eos_is_named(made, tmp_path):
    # As of base models: they end texts with one token, and have a template that ends answers with another.
    tokenizer = made(CHATML, eos_token="<|endoftext|>", pad_token="<|user|>")
    assert tokenizer.notes == (
        "the chat template ends an answer with '<|im_end|>', and EOS is '<|endoftext|>': to end answers with "
        "the template's, say --eos-token '<|im_end|>'",
    )
    mended = load_tokenizer(tmp_path / "it", eos_token="<|im_end|>", pad_token="<|user|>")
    assert mended.notes == ()
    (text,) = read_training_texts([{"messages": TALK}], mended, 999).records
    learned = [mended.decode([id], skip_special=False) for id in text.ids[text.learn]]
    assert "".join(learned) == "world<|im_end|>the dog<|im_end|>"


@pytest.mark.parametrize(
    ("template", "eos_token", "note"),
    [
        (CHATML, "<|im_end|>", None),
        (REASONING, "<|im_end|>", None),
        (CLOSING, "<|end|>", None),
        (CLOSING, "<|im_end|>", "ends an answer with '<|end|>', and EOS is '<|im_end|>'"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "<|im_end|>", None),
        ("{{ raise_exception('no') }}", "<|im_end|>", None),
        ("{% if %}", "<|im_end|>", None),
        ("{{ messages[0].content }}", "<|im_end|>", None),
        (
            DROPPING,
            "<|im_end|>",
            r"ends a prompt with '<think>\n', but does not write it before given answers",
        ),
    ],
)
def test_nothing_is_said_of_templates_that_agree(made, template, eos_token, note):
    (*notes,) = made(template, eos_token=eos_token, pad_token="<|user|>").notes
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_a_second_end_of_the_folder_is_an_end_too(tmp_path, backend):
    # As of Llama 3: EOS is the end of a text, generation_config.json names the end of a turn as well.
    folder = write(
        tmp_path, backend, {"eos_token_id": [0, 2]}, eos_token="<|endoftext|>", chat_template=CHATML
    )
    tokenizer = load_tokenizer(folder, pad_token="<|user|>")
    assert tokenizer.notes == ()
    (text,) = read_training_texts([{"messages": TALK}], tokenizer, 999).records
    assert tokenizer.decode(text.ids[text.learn], skip_special=False) == "world<|im_end|>the dog<|im_end|>"
