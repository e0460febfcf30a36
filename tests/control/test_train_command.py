"""What `proximo train` says: how to go on, how fast it was, what cannot be."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

import proximo
from proximo.cli import main
from proximo.commands.train import read, result, resume_command, score
from proximo.control.progress import facts
from proximo.runs.process import graceful_stop


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["CartPole-v1"], "proximo train --resume 'runs/a b'"),
        (["--resume", "runs/x", "module:Env-v0"], "proximo train --resume 'runs/a b' module:Env-v0"),
        (
            ["CartPole-v1", "--tensorboard", "--video-every", "500"],
            "proximo train --resume 'runs/a b' --tensorboard --video-every 500",
        ),
    ],
)
def test_the_command_that_goes_on_is_the_whole_command(words, command):
    assert resume_command(read(words), Path("runs/a b")) == command


def test_a_resumed_run_is_as_fast_as_its_own_steps():
    # 10,000 of the 1,010,000 steps were made here, in two seconds.
    iteration = SimpleNamespace(steps=1_010_000, mean_return=1.0)
    said = result(Path("run"), iteration, 2.0, begun=1_000_000)
    assert (said["steps"], said["steps_per_second"]) == (1_010_000, 5000.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint-every", "nan"], "checkpoint_every is nan: it must be at least 0"),
        (["--max-time", "-5"], "max_time is -5.0: it must be at least 0"),
    ],
)
def test_times_that_cannot_be_are_told_before_there_is_a_run(tmp_path, capsys, words, message):
    assert main(["train", "CartPole-v1", "--out", str(tmp_path / "run"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_carries_the_first_ones_number(number):
    with pytest.raises(KeyboardInterrupt) as interrupt, graceful_stop():
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert interrupt.value.args == (number,)


TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=1, steps=16, hidden=(4,))
WORDS = [
    "--num-envs",
    "2",
    "--horizon",
    "8",
    "--minibatch-size",
    "8",
    "--epochs",
    "1",
    "--steps",
    "16",
    "--hidden",
    "4",
]
FOUND = "observation: 3 numbers; action: 1 number in [-2, 2], scaled from [-1, 1]"


def test_one_line_says_what_was_found_in_the_spaces(tmp_path, capsys):
    words = ["train", "Pendulum-v1", *WORDS, "--hidden", "4"]
    assert main([*words, "--out", str(tmp_path / "one"), "--json"]) == 0
    output = capsys.readouterr()
    assert output.err.splitlines().count(FOUND) == 1 and FOUND not in output.out
    assert main([*words, "--quiet", "--out", str(tmp_path / "quiet")]) == 0
    assert capsys.readouterr().err == ""


def test_from_python_it_is_said_with_progress_alone(tmp_path, capsys):
    proximo.train("Pendulum-v1", **TINY, out=tmp_path / "silent")
    assert capsys.readouterr().err == ""
    proximo.train("Pendulum-v1", **TINY, out=tmp_path / "told", progress=True)
    assert capsys.readouterr().err.splitlines().count(FOUND) == 1
    proximo.PPO("Pendulum-v1", **TINY).learn(16)
    assert capsys.readouterr().err == ""


def test_a_run_without_an_episode_says_so():
    iteration = SimpleNamespace(mean_return=float("nan"), steps=5)
    assert "no episode has ended, so there is no mean return" in score(iteration)
    assert facts(iteration) == (5, "no episode ended yet", 5)
    iteration.mean_return = 1234.56
    assert facts(iteration).words == "return 1,234.6"
    assert score(iteration) == "mean return of the last 100 episodes: 1,234.6"
