"""No word of TRL is unknown: each is taken, or asks for nothing, or is told what to say instead."""

import pytest
from trl_words import EARLIER, TRL

from proximo.commands.lm_train import arguments_of
from proximo.errors import UserError
from proximo.foreign import PARTS, foreign
from proximo.language.running import COMMANDS
from proximo.options import flat_name
from proximo.words import Dialect, understood

every_command = pytest.mark.parametrize("command", COMMANDS)


def words_of(command, outcome):
    text = " ".join(TRL[part].get(outcome, "") for part in ("every command", command))
    return [f"--{word.replace('_', '-')}" for word in text.split()]


def said(command, *words):
    """The words by our own names."""
    return understood(command, words, arguments_of(command))


def refusal(command, *words):
    with pytest.raises(UserError) as error:
        said(command, *words)
    line = str(error.value)
    assert "\n" not in line and line.startswith(f"{words[0]}: ") and len(line) < 200
    return line


@every_command
def test_what_is_ours_and_what_is_translated(command):
    dialect = Dialect(command, arguments_of(command))
    assert {*map(flat_name, words_of(command, "ours"))} <= {*dialect.options}
    taken = {*dialect.aliases, *dialect.converted, *dialect.together} - {*dialect.foreign} | {
        PARTS,
        "--report-to",
    }
    assert {*words_of(command, "translated")} <= taken


@every_command
def test_what_is_harmless_is_taken_with_any_value(command):
    words = words_of(command, "harmless")
    for value in ([], ["true"], ["false"], ["none"], ["0.5", "x"], ['{"a": 1}']):
        assert said(command, *(part for word in words for part in (word, *value))) == []
    assert said(command, *(f"--no-{word[2:]}" for word in words)) == []


@every_command
def test_what_is_harmless_for_some_values_is_refused_with_others(command):
    for word in words_of(command, "harmless for some values"):
        for value in foreign(command)[word].harmless:
            assert said(command, word, value) == [] == said(command, word, value.capitalize())
        refusal(command, word, "another")
        if "false" in foreign(command)[word].harmless:
            assert said(command, f"--no-{word[2:]}") == []
            refusal(command, word)  # a switch by itself is on


@every_command
def test_what_is_refused_says_what_to_do(command):
    for word in words_of(command, "refused"):
        refusal(command, word, "1")


@every_command
def test_words_of_earlier_versions_are_known(command):
    assert {f"--{word.replace('_', '-')}" for word in EARLIER.split()} <= Dialect(
        command, arguments_of(command)
    ).others


def test_a_word_of_ours_is_never_refused_nor_passed_over():
    for command in COMMANDS:
        dialect = Dialect(command, arguments_of(command))
        assert not {*map(flat_name, dialect.foreign)} & {*dialect.options}, command
        assert not {*dialect.foreign} & {*dialect.converted}, command


@every_command
def test_what_is_not_harmless_whatever_its_value_says_what_to_do(command):
    for word, known in foreign(command).items():
        assert known.harmless is None or known.instead, word


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("dpo", "--loss-type apo_zero", "--loss-type apo_zero: it may be one of sigmoid, ipo"),
        ("dpo", "--loss_type sigmoid bco_pair", "--loss-type bco_pair: it may be one of sigmoid, ipo"),
        ("grpo", "--loss-type cispo", "--loss-type cispo: it may be one of grpo, dapo, bnpo, dr_grpo"),
        ("grpo", "--scale-rewards batch", "--scale-rewards batch: it may be one of true, group, false, none"),
        ("sft", "--loss-type dft", "the loss is the next token's, nll"),
        ("dpo", "--reference-free", "the loss always uses a reference model"),
        ("dpo", "--ref-model gpt2", "the reference is the model that the run starts from"),
        ("sft", "--use-rslora", "use --lora-alpha with your alpha times the square root of the rank"),
        ("sft", "--dataset-text-field body", "the column is called text: rename it"),
        ("grpo", "--chat-template-path t.jinja", "use --chat-template, with the template's file"),
        ("grpo", "--vllm-mode colocate", "sampled in this process"),
        ("grpo", "--no-shuffle-dataset", "data are shuffled with --seed"),
        ("reward", "--group-by-length", "leave it out"),
        ("ppo", "--mini-batch-size 4", "use --batch-size, and --minibatches"),
    ],
)
def test_what_to_say_instead(command, words, message):
    with pytest.raises(UserError) as error:
        said(command, *words.split())
    assert message in str(error.value) and "\n" not in str(error.value)
