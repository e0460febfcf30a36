"""What belongs to the whole process, and others may change: training goes on all the same."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import gymnasium as gym
import jax
import numpy as np
import pytest
from drawn import Drawn
from probes import Ends, small

import proximo
from proximo.cli import main
from proximo.control.files import load_checkpoint
from proximo.control.run import train_config
from proximo.control.watch import record_video
from proximo.errors import EnvironmentNotClosed, UserError
from proximo.runs.checkpoints import finished, newest_valid
from proximo.runs.process import Deadline, StopRequest, graceful_stop, prepare_process, take_turns

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, steps=70)


def test_training_passes_where_every_warning_is_an_error(tmp_path):
    # As under `python -W error`, or in a suite of tests with `-W error`. No other test has networks of this
    # width, so the update is traced here, and what is deprecated in it would be told here.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train_config(small(Ends, **TINY, hidden=(7,)), out=tmp_path / "run")
        assert run.evaluate(episodes=2).lengths == [3, 3]


# ---- an environment that asks for the end of the program


class Leaves(Ends):
    """Wants the program to end: `where` says in which method, `after` how many calls of it."""

    def __init__(self, how=SystemExit, where="step", after=40):
        self.how, self.where, self.left = how, where, after
        self.ask("make")

    def ask(self, where):
        if where == self.where:
            self.left -= 1
            if self.left < 0:
                raise self.how

    def reset(self, **how):
        self.ask("reset")
        return super().reset(**how)

    def step(self, action):
        self.ask("step")
        return super().step(action)

    def close(self):
        self.ask("close")


HOWS = {
    "SystemExit": SystemExit,
    "SystemExit: no licence": SystemExit("no licence"),
    "CancelledError": asyncio.CancelledError,
    "KeyboardInterrupt": KeyboardInterrupt,
}
for number, how in enumerate(HOWS.values()):
    gym.register(f"Leaves-{number}-v0", Leaves, kwargs={"how": how})
WORDS = ["--num-envs", "2", "--horizon", "16", "--minibatch-size", "32", "--epochs", "1", "--hidden", "4"]
WORDS += ["--steps", "200", "--quiet"]


@pytest.mark.parametrize(("number", "reason"), enumerate(HOWS))
def test_an_environment_that_asks_for_the_programs_end_fails_in_one_line(tmp_path, capsys, number, reason):
    # What was learned from 48 rows is kept, and the status is not 0.
    assert main(["train", f"Leaves-{number}-v0", *WORDS, "--out", str(tmp_path / "run")]) == 2
    going_on, said = capsys.readouterr().err.splitlines()
    # Its 41st step; of 4 rows, one is a reset: 13 episodes are 39 steps and 52 rows, and two more.
    assert "failed at step 54, after the action " in said
    assert f": it asked the program to end ({reason})" in said
    assert "resume with: proximo train --resume" in going_on
    assert proximo.load(tmp_path / "run").act(np.zeros(1, np.float32)) in (0, 1)


def test_so_it_does_wherever_it_is_asked(tmp_path):
    def made(where, after=0):
        return lambda: Leaves(where=where, after=after)

    with pytest.raises(UserError, match=r"could not be made: it asked the program to end \(SystemExit\)"):
        train_config(small(made("make"), **TINY), out=tmp_path / "made")
    with pytest.raises(UserError, match="failed at its reset: it asked the program to end"):
        train_config(small(made("reset"), **TINY), out=tmp_path / "reset")
    with pytest.warns(EnvironmentNotClosed, match="failed to close: it asked the program to end"):
        run = train_config(small(made("close"), **TINY), out=tmp_path / "closed")
    with pytest.raises(UserError, match="it asked the program to end"):
        proximo.evaluate(run.agent, made("step"), episodes=1)


def test_a_module_that_ends_the_program_when_it_is_imported(tmp_path, monkeypatch, capsys):
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)  # as one that was written to be run\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["train", "script:Mine-v0"]) == 2
    assert "(it asked the program to end (SystemExit: 0), script.py line 2)" in capsys.readouterr().err


def test_our_vector_makes_it_anew(tmp_path, capsys):
    words = ["--vectorization-mode", "parallel", "--num-envs", "1", "--minibatch-size", "16"]
    assert (
        main(["train", "Leaves-0-v0", *WORDS, *words, "--steps", "70", "--out", str(tmp_path / "run")]) == 0
    )
    (said,) = capsys.readouterr().err.splitlines()
    assert "it asked the program to end (SystemExit); it was restarted and its episode truncated" in said


def test_ctrl_c_is_no_word_of_the_environments():
    class Interrupted(Ends):
        def step(self, action):
            signal.raise_signal(signal.SIGINT)
            return super().step(action)

    with pytest.raises(KeyboardInterrupt):  # Python's own handler
        list(proximo.training(small(Interrupted, **TINY)))
    with pytest.raises(KeyboardInterrupt) as caught, graceful_stop() as stop:
        list(proximo.training(small(Interrupted, **TINY)))
    assert stop.requested and caught.value.args == (signal.SIGINT,)


def test_any_other_code_of_the_users_that_asks_for_the_end(monkeypatch, capsys):
    def leave(arguments):
        raise SystemExit(0)  # as a reward function may

    monkeypatch.setattr("proximo.commands.report.run", leave)
    assert main(["report", "anything"]) == 2
    said = capsys.readouterr().err
    assert "your code failed: it asked the program to end (SystemExit: 0)" in said and said.count("\n") == 1


# ---- an environment that changes the working folder


class Wanders(Drawn):
    """Goes to where its own files lie, as simulators do."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        os.chdir(os.environ["ELSEWHERE"])


gym.register("Wanders-v0", Wanders)


def test_files_go_where_the_command_was_begun(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir(), (tmp_path / "there").mkdir()
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "there"))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def command(*words):
        monkeypatch.chdir(tmp_path / "here")
        assert main(list(words)) == 0
        return capsys.readouterr().out

    told = command("train", "Wanders-v0", *WORDS, "--out", "run", "--tensorboard", "--video-every", "100")
    assert told.endswith("run: run\nnext: proximo evaluate run\n")
    command("train", "--resume", "run", "--steps", "300", "--quiet")
    command("evaluate", "run", "--episodes", "2", "--save", "--out", "scores.json")
    assert "video: play.gif\n" in command("watch", "run", "--video", "play.gif")
    command("train", "Wanders-v0", *WORDS, "--seeds", "2", "--out", "seeds")
    assert "\nrun: runs/Wanders-v0-0-" in command("train", "Wanders-v0", *WORDS)
    monkeypatch.chdir(tmp_path / "here")
    folder = proximo.train(
        "Wanders-v0", steps=32, num_envs=2, horizon=16, minibatch_size=32, out="mine"
    ).folder
    assert folder == tmp_path / "here" / "mine"
    monkeypatch.chdir(tmp_path / "here")
    record_video(proximo.load(folder), "mine.gif")
    names = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*")}
    assert {
        "play.gif",
        "mine.gif",
        "scores.json",
        "run/evaluation.json",
        "run/model",
        "seeds/seed-1/model",
    } <= names
    assert {"run/tb", "run/videos/step-000000120.mp4", "mine/model", "runs"} <= names
    assert list((tmp_path / "there").iterdir()) == []


# ---- signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_what_would_end_a_process_asks_for_an_orderly_end(name):
    number, usual = getattr(signal, name), signal.SIG_DFL
    before = signal.signal(number, usual)  # under nohup the tests themselves ignore one of them
    try:
        with graceful_stop() as stop:
            signal.raise_signal(number)
            assert stop.requested and stop.status == 128 + number
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)


def test_under_nohup_the_end_of_the_terminal_is_not_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful_stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


ROBOT = """
import signal
from pathlib import Path
import gymnasium as gym
import numpy as np

class Robot(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.clock = 0
        self.take_signals()

    def take_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self.shut_down)

    def shut_down(self, number, frame):
        Path("shut-down").write_text(f"{number} {Path('run/model').exists()}")
        raise SystemExit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.clock += 1
        if self.clock == 40:  # late, and once
            self.take_signals()
        return np.zeros(1, np.float32), 1.0, self.clock % 5 == 0, False, {}

gym.register("Robot-v0", Robot)
"""


def test_a_service_whose_environment_takes_its_signals_still_saves(tmp_path):
    # A process without standard streams, as under some supervisors; a scheduler that announces the end.
    (tmp_path / "robot.py").write_text(ROBOT)
    words = ["-m", "proximo", "train", "robot:Robot-v0", *WORDS, "--steps", str(10**8), "--out", "run"]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, *words]
    process = subprocess.Popen(
        shell, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
    while not log.exists() or log.read_text().count("\n") < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 128 + signal.SIGUSR1
    last = json.loads(log.read_text().splitlines()[-1])
    assert newest_valid(tmp_path / "run", load_checkpoint)[1][1].steps == last["time/total_timesteps"]
    # The environment's own handler had its turn too, once the model was there.
    assert (tmp_path / "shut-down").read_text() == f"{int(signal.SIGUSR1)} True"


# ---- where JAX cannot compute


def test_a_platform_that_is_not_there(monkeypatch):
    def absent():
        raise AssertionError  # all that JAX says of a GPU

    monkeypatch.setattr(jax, "default_backend", absent)
    with pytest.raises(
        UserError, match=r"JAX finds no platform 'cpu' here: unset JAX_PLATFORMS, set it to cpu"
    ):
        prepare_process()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_fork_of_a_process_that_used_jax_is_refused_and_does_not_hang(tmp_path):
    config = small(Ends, **TINY)
    run = train_config(config, out=tmp_path / "run")
    attempts = {
        "act": lambda: run.agent.act(np.zeros(1, np.float32)),
        "evaluate": lambda: run.evaluate(episodes=1),
        "load": lambda: proximo.load(run.folder),
        "resume": lambda: proximo.resume(run.folder, env=Ends, steps=200),
        "training": lambda: next(proximo.training(config)),
        "train": lambda: train_config(config, out=tmp_path / "child"),
    }
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(20)  # rather than wait for ever
        for name, attempt in attempts.items():
            try:
                attempt()
            except UserError as error:
                os.write(writer, f"{name}: {error}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        lines = said.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert [line.partition(":")[0] for line in lines] == list(attempts)
    assert all("was forked from one that had used JAX" in line and "'spawn'" in line for line in lines)
    assert len(finished(run.folder / "checkpoints")) == 2  # nothing was moved
    assert run.evaluate(episodes=1).lengths == [3]  # the parent goes on


# ---- turns, until there is a reason to end


@pytest.mark.parametrize(
    ("seconds", "asked_in", "turns", "status"),
    [
        (None, None, 4, 0),
        (0.0, None, 1, 3),  # the first turn is always taken
        (0.0, 1, 1, 143),  # a signal is named before the clock
        (None, 2, 2, 143),
        (None, 4, 4, 143),
    ],
)
def test_turns_are_taken_until_there_is_a_reason_to_end(seconds, asked_in, turns, status):
    stop, taken = StopRequest(), []

    def numbers():
        try:
            for number in range(1, 5):
                taken.append(number)
                stop.number = signal.SIGTERM if number == asked_in else 0
                yield number
        finally:
            taken.append("closed")

    ending = take_turns(numbers(), lambda number: number == 4, Deadline(seconds), stop)
    assert (ending.last, ending.status) == (turns, status)
    assert taken == [*range(1, turns + 1), "closed"]


def test_the_last_turn_is_never_too_late():
    ending = take_turns((number for number in [1]), lambda number: True, Deadline(0.0))
    assert (ending.last, ending.status) == (1, 0)
