"""`--config FILE` in every command, numbers as people write them, and where the environment or run stands."""

import json

import pytest

from proximo.arguments import config_from, parse_recipe, parse_words
from proximo.cli import main
from proximo.commands.evaluate import Evaluate
from proximo.commands.train import Train
from proximo.control.config import Config
from proximo.errors import UserError
from proximo.options import with_options
from proximo.plain import whole_number

FILE = """
total-timesteps = 1e5
num_envs = 4
lr = 0.01
anneal = false
hidden = [8, 8]
objective = "clip:0.1"
env_kwargs = {is_slippery = false, map_name = "8x8"}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes `options.toml` in the working folder."""
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "options.toml").write_text(text)


def test_a_file_of_options_gives_what_the_command_line_does_not(file):
    file(FILE)
    words = ["FrozenLake-v1", "--config", "options.toml", "--num-envs", "2", "--hidden", "16"]
    found = config_from(parse_recipe(Train, "train", words))
    typed = [
        *("FrozenLake-v1", "--steps", "100000", "--num-envs", "2", "--learning-rate", "0.01", "--no-anneal"),
        *("--hidden", "16", "--clip", "0.1", "--env-kwargs", "is_slippery=false", "map_name=8x8"),
    ]
    assert found == config_from(parse_recipe(Train, "train", typed))


def test_every_command_takes_a_file_and_the_command_line_wins(file):
    file('env = "CartPole-v1"\nn_eval_episodes = 7\nseed = 3\n')
    found = parse_words(Evaluate, "evaluate", ["--config", "options.toml", "--seed", "4", "RUN"])
    assert (found.env, found.episodes, found.seed, found.run.name) == ("CartPole-v1", 7, 4, "RUN")
    assert main(["check", "--config", "options.toml"]) == 2  # n_eval_episodes is none of its options
    file('env = "CartPole-v1"\nsteps = 20\n')
    assert main(["check", "--config", "options.toml"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sted = 3", "--config options.toml: there is no option 'sted'; the nearest: seed, steps, seeds"),
        ("[network]\nhidden = [8]", "[network] is a table: write options at the top level"),
        ("steps =", "--config options.toml is not TOML"),
        ("steps = 1.5", "'1.5' is not a whole number"),
        (
            'env = "shop.py:Shop"',
            "a file may not import code: type: proximo train shop.py:Shop --config options.toml",
        ),
        (
            'env = "CartPole-v1"\nobjective = "my_module:Mine"',
            "a file may not import code: confirm it by typing --objective my_module:Mine",
        ),
        ('resume = "runs/x"', "there is no option 'resume'"),
    ],
)
def test_a_file_that_cannot_be_is_one_line_and_names_no_code(file, capsys, text, message):
    file(text)
    assert main(["train", "--config", "options.toml"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_runs_own_record_and_a_resumed_run_take_no_file(file, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"env": "CartPole-v1"}))
    assert main(["train", "CartPole-v1", "--config", "config.json"]) == 2
    assert "config.json is JSON: write TOML" in capsys.readouterr().err
    file("steps = 3")
    assert main(["train", "--resume", "runs/x", "--config", "options.toml"]) == 2
    assert "with --resume the options come from the run" in capsys.readouterr().err


# ---- numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100", 100),
        ("1_000_000", 10**6),
        ("1e6", 10**6),
        ("1M", 10**6),
        ("500k", 500_000),
        ("1.5m", 1_500_000),
        ("2.5e3", 2500),
        ("-1", -1),
        ("1000000.0", 10**6),
        ("2B", 2 * 10**9),
        ("123456789123456789", 123456789123456789),
    ],
)
def test_a_whole_number_as_people_write_it(text, number):
    assert whole_number(text) == number and type(whole_number(text)) is int


@pytest.mark.parametrize(
    "text", ["1.5", "much", "", "1e-3", "1e999999999", "0x10", "1.0005k", "nan", "inf", "1 000", "k"]
)
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a whole number: write 1000000, 1_000_000, 1e6, 1M or 500k"):
        whole_number(text)


def test_whole_numbers_are_read_so_in_every_option_and_in_python(file):
    words = [
        "CartPole-v1",
        "--steps",
        "1M",
        "--num-minibatches",
        "1e0",
        "--hidden",
        "1e1",
        "2_0",
        "--video-every",
        "5k",
    ]
    found = parse_recipe(Train, "train", words)
    assert (config_from(found).steps, config_from(found).network.hidden) == (10**6, (10, 20))
    assert found.sinks.video_every == 5000
    assert with_options(Config("E"), steps=1e6, hidden=[64.0, 32]).network.hidden == (64, 32)
    assert type(with_options(Config("E"), steps=1e6).steps) is int
    with pytest.raises(UserError, match=r"steps is 1\.5: it must be a whole number"):
        with_options(Config("E"), steps=1.5)
    with pytest.raises(UserError, match=r"'1\.5' is not a whole number"):
        parse_recipe(Train, "train", ["CartPole-v1", "--steps", "1.5"])


# ---- the order of words


@pytest.mark.parametrize(
    "words",
    [
        "RUN --seed 4 --env-kwargs a=1",
        "--seed 4 RUN --env-kwargs a=1",
        "--seed 4 --env-kwargs a=1 RUN",
        "--seed=4 --env-kwargs=a=1 --run RUN",
    ],
)
def test_the_run_comes_first_and_may_come_last(words):
    found = parse_words(Evaluate, "evaluate", words.split())
    assert (found.run.name, found.seed, found.env_kwargs) == ("RUN", 4, {"a": 1})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "evaluate RUN CartPole-v1",
            "give one RUN, not RUN CartPole-v1: to name the environment, write --env CartPole-v1",
        ),
        ("watch RUN shop.py:Shop --fps 3", "to name the environment, write --env shop.py:Shop"),
        ("train CartPole-v1 Acrobot-v1", "give one ENV, not CartPole-v1 Acrobot-v1"),
        ("train FOLDER", "FOLDER is a folder: to resume the run in it, type proximo train --resume FOLDER"),
    ],
)
def test_a_word_too_many_is_answered_with_the_option_that_was_meant(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
