"""A run leaves a folder behind: what is in it, and what is still in it when something goes wrong."""

import contextlib
import csv
import json
import math
import os
import signal
import time

import numpy as np
import pytest
from probes import Aim, Ends, Probe, equal, small

import proximo
from proximo import training
from proximo.cli import main
from proximo.control.config import Config
from proximo.control.files import control_files
from proximo.control.run import train_config
from proximo.errors import EnvironmentFault, UserError
from proximo.options import flat_options
from proximo.runs.folder import RunFolder
from proximo.runs.process import graceful_stop
from proximo.runs.record import record

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1)
SMALL = small(Ends, steps=70, **TINY)
FILES = control_files(SMALL)

# Frozen: a reader of a run relies on them (TensorBoard tags; the same names in metrics.jsonl).
METRICS = [
    "rollout/ep_len_mean",
    "rollout/ep_rew_mean",
    "rollout/restarts",
    "time/fps",
    "time/iterations",
    "time/time_elapsed",
    "time/total_timesteps",
    "train/approx_kl",
    "train/approx_kl_max",
    "train/clip_fraction",
    "train/clip_range",
    "train/entropy",
    "train/explained_variance",
    "train/grad_norm",
    "train/kl_stopped",
    "train/learning_rate",
    "train/loss",
    "train/parameter_norm",
    "train/policy_gradient_loss",
    "train/updates",
    "train/value_loss",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_config(SMALL, out=tmp_path_factory.mktemp("run") / "run")


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def episodes_of(folder):
    with (folder / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


CHECKPOINT = (
    "manifest.json",
    "model.json",
    "model.safetensors",
    "state.json",
    "state.safetensors",
)


def test_the_names_in_a_run_folder(run):
    names = sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())
    assert names == [
        *(f"checkpoints/000000000024/{name}" for name in CHECKPOINT),  # of the first iteration
        *(f"checkpoints/000000000072/{name}" for name in CHECKPOINT),  # and of the last
        "config.json",
        "episodes.csv",
        "metrics.jsonl",
        "model/manifest.json",
        "model/model.json",
        "model/model.safetensors",
        "outcome.json",
    ]


def test_metrics_are_one_line_per_iteration_with_known_names(run):
    lines = metrics_of(run.folder)
    assert [line["time/total_timesteps"] for line in lines] == [24, 48, 72]
    assert [line["time/iterations"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert sorted(line) == METRICS
        assert all(math.isfinite(value) for value in line.values())
    assert lines[-1]["rollout/ep_len_mean"] == 3.0


def test_a_continuous_policy_has_two_metrics_more(tmp_path):
    run = train_config(small(Aim, steps=8, **TINY), out=tmp_path / "run")
    (line,) = metrics_of(run.folder)
    assert sorted(line) == sorted([*METRICS, "train/std", "rollout/actions_at_bounds"])
    assert line["train/std"] == pytest.approx(1.0)  # of the policy that collected: exp(0)


def test_episodes_are_written_with_their_raw_returns(run):
    episodes = episodes_of(run.folder)
    assert len(episodes) == 24
    assert episodes[0] == {
        "step": "24",
        "env": "0",
        "return": str(1.1 + 1.2 + 1.3),  # Ends pays 1 + 10 * 0.01 * count
        "length": "3",
        "terminated": "1",
    }
    # The first episode of each environment dies, the second runs out of time.
    assert [episode["terminated"] for episode in episodes[:4]] == ["1", "1", "0", "0"]


def test_the_configuration_is_written_whole_with_what_it_ran_on(run):
    config = json.loads((run.folder / "config.json").read_text())
    flat = config | config["update"] | config["network"]
    assert set(flat_options(Config)) <= set(flat)
    assert flat["env"] == "Ends" and flat["steps"] == 70 and flat["hidden"] == [16]
    assert flat["objective"] == {"name": "Clip", "epsilon": 0.2}
    assert {"python", "proximo", "jax", "numpy", "gymnasium"} <= set(config["versions"])
    assert {"machine", "backend", "devices", "processes"} <= set(config["fingerprint"])


def test_the_preset_and_the_command_are_recorded_and_stay_when_the_run_goes_on(tmp_path, capsys):
    def recorded_of(path):
        config = json.loads((path / "config.json").read_text())
        return config.get("preset"), config.get("command"), config["steps"]

    tiny = ["--steps", "16", "--num-envs", "2", "--n-steps=8", "--minibatch-size", "8", "--quiet"]
    words = ["train", "CartPole-v1", "--preset", "paper", *tiny, "--out", str(tmp_path / "typed")]
    assert main(words) == 0
    assert recorded_of(tmp_path / "typed") == ("paper", words, 16)  # as typed: aliases are not translated
    assert main(["train", "--resume", str(tmp_path / "typed"), "--steps", "32", "--quiet"]) == 0
    assert recorded_of(tmp_path / "typed") == ("paper", words, 32)
    words = ["train", "CartPole-v1", "--seeds", "2", *tiny, "--out", str(tmp_path / "all")]
    assert main(words) == 0
    assert recorded_of(tmp_path / "all" / "seed-1") == ("default", words, 16)
    python = proximo.train(Ends, out=tmp_path / "python", steps=32, **TINY)
    assert recorded_of(python.folder) == ("default", None, 32)  # nobody typed anything
    capsys.readouterr()


def test_a_run_that_is_loaded_acts_as_it_did(run):
    agent = proximo.load(run.folder)
    assert equal(agent.policy, run.agent.policy) and equal(agent.observations, run.agent.observations)
    assert equal(agent.policy, proximo.load(run.folder / "model").policy)
    assert agent.act(np.zeros(1, np.float32)) == run.agent.act(np.zeros(1, np.float32))


def test_a_run_evaluates_where_it_was_trained(run):
    evaluation = run.evaluate(episodes=2)
    # One environment each: the first episode there, 1.1 + 1.2 + 1.3
    assert evaluation.returns == pytest.approx([3.6, 3.6]) and evaluation.lengths == [3, 3]


def test_a_folder_with_a_run_is_left_alone(run):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run: choose another --out"):
        train_config(SMALL, out=run.folder)
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


class Unfit(Probe):
    """Cannot be made."""

    def __init__(self):
        raise RuntimeError("not today")


def test_a_run_that_never_began_leaves_its_folder_free(tmp_path):
    # A mistake that shows only once the environments are made: the same command, corrected, may follow.
    with pytest.raises(UserError, match="not today"):
        train_config(small(Unfit, **TINY), out=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "episodes.csv"}
    going_on = RunFolder(tmp_path / "run", FILES)  # as while a run is about to begin there
    with pytest.raises(UserError, match="a run that is still running"):
        train_config(SMALL, out=tmp_path / "run")
    going_on.lock.release()
    assert proximo.load(train_config(SMALL, out=tmp_path / "run").folder).name == SMALL.env.__name__


def test_an_option_that_cannot_be_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="gamma is 3"):
        train_config(small(Ends, gamma=3.0), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- however it ends, the last policy is saved


def saved(folder):
    return proximo.load(folder.path).policy


def test_a_loop_that_is_broken_out_of_saves(tmp_path):
    folder = RunFolder.create(FILES, tmp_path / "run")
    iterations = record(training(SMALL), folder)
    first = next(iterations)
    iterations.close()
    assert equal(saved(folder), first.agent.policy)
    assert len(metrics_of(folder.path)) == 1


class Failing(Probe):
    steps = 0

    def turn(self, action):
        self.steps += 1
        if self.steps == 20:
            raise RuntimeError("out of coins")
        return 1.0, False, False


def test_an_environment_that_fails_midway_leaves_the_policy_before(tmp_path):
    config = small(Failing, **TINY)
    first = next(training(config))
    with pytest.raises(EnvironmentFault, match="out of coins"):
        train_config(config, out=tmp_path / "run")
    assert equal(proximo.load(tmp_path / "run").policy, first.agent.policy)


def test_an_update_that_leaves_the_finite_numbers_leaves_the_policy_before(tmp_path):
    class Overflowing(Probe):
        steps = 0

        def turn(self, action):
            self.steps += 1
            return 1e30 if self.steps > 16 else 1.0, True, False

    with pytest.raises(UserError, match="is discarded"):
        train_config(small(Overflowing, **TINY), out=tmp_path / "run")
    assert all(
        np.all(np.isfinite(x))
        for x in map(np.asarray, proximo.load(tmp_path / "run").policy.critic.layers[0].__dict__.values())
    )


def test_an_interrupt_in_the_loop_saves(tmp_path):
    class Interrupting(Probe):
        steps = 0

        def turn(self, action):
            self.steps += 1
            if self.steps == 20:
                raise KeyboardInterrupt
            return 1.0, True, False

    with pytest.raises(KeyboardInterrupt):
        train_config(small(Interrupting, **TINY), out=tmp_path / "run", progress=True)
    assert proximo.load(tmp_path / "run").act(np.zeros(1, np.float32)) in (0, 1)


def test_a_model_that_cannot_be_saved_is_not_kept_quiet(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(RunFolder, "save", full)
    with pytest.raises(OSError, match="no space left"):
        train_config(SMALL, out=tmp_path / "run")


def test_a_failed_first_turn_leaves_no_model(tmp_path):
    class Broken(Probe):
        def turn(self, action):
            raise RuntimeError("never worked")

    with pytest.raises(EnvironmentFault, match="never worked"):
        train_config(small(Broken, **TINY), out=tmp_path / "run")
    with pytest.raises(UserError, match="there is no model"):
        proximo.load(tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.filterwarnings("ignore:.*fork")  # JAX warns of any, for what it may hold at that moment
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_an_environment_forks_can_be_ended(number):
    """It inherits our handlers; if they held there, a pool that ends its workers would wait for ever."""
    with graceful_stop() as stop:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(KeyboardInterrupt):  # Python's own answer to SIGINT
                time.sleep(20)
                os._exit(0)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        os.kill(child, number)
        assert os.waitpid(child, 0)[1] == number
        assert not stop.requested


def test_the_first_interrupt_asks_and_the_second_one_insists():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), graceful_stop() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before
