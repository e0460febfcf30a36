"""`--chat-template FILE`: a template for a model that has none, or another one, kept with what is trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from workplace import lines, workplace

from proximo.cli import main
from proximo.errors import UserError
from proximo.language.files.folder import load_model, save_model
from proximo.language.files.model_options import ModelOptions
from proximo.language.inputs import refuse_other_inputs, sums_of_inputs
from proximo.language.language_model import load
from proximo.language.running import SAMPLING, method
from proximo.language.text.data import read_prompts
from proximo.language.text.tokenizer import load_tokenizer
from proximo.language.train.sft import SFTOptions
from proximo.options import options_from

TEMPLATE = (
    "{% for m in messages %}{{ 'b' if m.role == 'user' else 'a' }}{{ m.content }} {% endfor %}"
    "{{ 'a' if add_generation_prompt }}"
)
TALKS = [
    [{"role": "user", "content": str(i)}, {"role": "assistant", "content": str(i + 1)}] for i in range(4)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = workplace(tmp_path_factory.mktemp("place"))
    lines(place / "talks.jsonl", [{"messages": talk} for talk in TALKS])
    lines(place / "asked.jsonl", [{"prompt": talk[:1]} for talk in TALKS])
    preferences = [{"prompt": talk[:1], "chosen": talk[1:], "rejected": TALKS[-1][1:]} for talk in TALKS[:3]]
    lines(place / "preferred.jsonl", preferences)
    (place / "talk.jinja").write_text(TEMPLATE)
    return place


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


def test_what_is_trained_keeps_it(there, capsys):
    words = [
        "sft",
        "base",
        "--data",
        "talks.jsonl",
        "--epochs",
        "1",
        "--quiet",
        "--batch-size",
        "2",
        "--out",
        "run",
    ]
    assert main(["lm", *words]) == 2
    assert "has no chat template: give one (--chat-template FILE)" in capsys.readouterr().err
    assert main(["lm", *words, "--chat-template", "talk.jinja"]) == 0
    assert (there / "run" / "model" / "chat_template.jinja").read_text() == TEMPLATE
    assert main(["lm", "generate", "run", "--chat", "--prompt", "1", "--max-new-tokens", "2"]) == 0


DATA = {"sft": "talks", "dpo": "preferred", "reward": "preferred", "ppo": "asked", "grpo": "asked"}


@pytest.mark.parametrize("command", DATA)
def test_every_command_reads_messages_with_it(there, command):
    options, build = method(command)
    rewards = dict(reward="rewards_of_mine:ones", response_length=8) if command in SAMPLING else {}
    given = dict(model="base", data=f"{DATA[command]}.jsonl", chat_template="talk.jinja", **rewards)
    trainer = build(options_from(options, given))
    tokenizer = (trainer.rollouts if command in SAMPLING else trainer).tokenizer
    assert tokenizer.template == TEMPLATE


def test_answers_and_measures_follow_it(there, capsys):
    words = ["--chat", "--prompt", "1", "--json", "--max-new-tokens", "2", "--greedy"]
    assert main(["lm", "generate", "base", *words]) == 2
    assert "--chat-template" in capsys.readouterr().err
    assert main(["lm", "generate", "base", *words, "--chat-template", "talk.jinja"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    model = load("base", chat_template="talk.jinja")
    (text,) = model.generate("b1 a", max_new_tokens=2, greedy=True)
    assert answer["completion"] == [{"role": "assistant", "content": text}]
    assert (
        main(["lm", "eval", "base", "--data", "talks.jsonl", "--json", "--chat-template", "talk.jinja"]) == 0
    )
    # Each of the 4 answers is a digit, the blank that the template writes behind it, and EOS.
    assert json.loads(capsys.readouterr().out)["tokens"] == 12


def test_it_counts_more_than_the_model_s_own(there, tmp_path):
    tokenizer = replace(load_tokenizer(there / "base"), template="own")
    save_model(tmp_path / "model", load_model(there / "base"), tokenizer)
    assert load(tmp_path / "model").tokenizer.chat(TALKS[0], False) == "own"
    model = load(tmp_path / "model", chat_template=there / "talk.jinja")
    assert model.tokenizer.chat(TALKS[0], True) == "b0 a1 a"
    again = load(model.save(tmp_path / "again"))
    assert again.tokenizer.chat(TALKS[0], True) == "b0 a1 a"


def test_a_run_goes_on_with_the_template_that_it_began_with(there, tmp_path):
    template = tmp_path / "it.jinja"
    template.write_text("a")
    options = SFTOptions(data="talks.jsonl", model=ModelOptions(model="base", chat_template=template))
    began_with = sums_of_inputs(options)
    refuse_other_inputs(began_with, options)
    template.write_text("b")
    with pytest.raises(UserError, match=r"it\.jinja has changed since the run started"):
        refuse_other_inputs(began_with, options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nowhere.jinja is missing: give a file with a chat template"),
        ("{% if %}", "nowhere.jinja: the chat template cannot be read"),
    ],
)
def test_a_file_that_is_no_template(there, tmp_path, content, message):
    place = tmp_path / "nowhere.jinja"
    if content is not None:
        place.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load(Path("base"), chat_template=place)
    assert "\n" not in str(error.value)


def test_what_it_is_told_besides_messages(there, capsys):
    (there / "named.jinja").write_text("{% if brief %}0{% endif %}" + TEMPLATE)
    words = [
        "generate",
        "base",
        "--chat-template",
        "named.jinja",
        "--chat-template-kwargs",
        '{"brief": true}',
    ]
    words += ["--data", "asked.jsonl", "--max-new-tokens", "2", "--greedy", "--json"]
    assert main(["lm", *words]) == 0
    told = [one["completion"][0]["content"] for one in json.loads(capsys.readouterr().out)]
    model = load("base", chat_template="named.jinja", chat_template_kwargs={"brief": True})
    assert model.tokenizer.chat(TALKS[0][:1], True) == "0b0 a"
    assert told == model.generate([talk[:1] for talk in TALKS], max_new_tokens=2, greedy=True)
    records = [{"prompt": talk[:1], "chat_template_kwargs": {"brief": False}} for talk in TALKS]
    assert read_prompts(records, model.tokenizer, 9).records[0].text == "b0 a"  # a record knows better
    with pytest.raises(UserError, match='does not read "breef" of "chat_template_kwargs": leave it out'):
        load("base", chat_template="named.jinja", chat_template_kwargs='{"breef": true}')
