"""At its end a run says in one line what its metrics tell of trouble, and what to try."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from probes import Aim, Probe, small

from proximo import training
from proximo.cli import main
from proximo.commands.lm_train import arguments_of
from proximo.commands.train import Train
from proximo.language.running import SAMPLING
from proximo.options import flat_options
from proximo.runs.symptoms import SYMPTOMS, symptoms

WORDS = ["--num-envs", "2", "--horizon", "32", "--minibatch-size", "64", "--epochs", "1", "--hidden", "4"]


def rows(count=20, **last):
    """A sound run of 10 steps an iteration, with some metrics as they are given for each iteration."""
    sound = {"rollout/ep_rew_mean": 1.0, "train/entropy": 0.6}
    made = [{"time/total_timesteps": 10 * (k + 1)} | sound for k in range(count)]
    for name, values in last.items():
        for row, value in zip(made, values, strict=True):
            row[name.replace("__", "/")] = value
    return made


def test_a_sound_run_says_nothing():
    assert symptoms(rows()) == []
    assert symptoms(rows(rollout__actions_at_bounds=[0.3] * 20)) == []
    assert symptoms([]) == []


def test_a_run_without_the_end_of_an_episode():
    found = [{"time/total_timesteps": 10}, {"time/total_timesteps": 20}]
    (line,) = symptoms(found)
    assert line.startswith(
        "no episode has ended, so there is no mean return: train for longer, or limit episodes"
    )


def test_actions_that_sit_at_their_bounds():
    (line,) = symptoms(rows(rollout__actions_at_bounds=[0.1] * 18 + [0.85, 0.95]))
    assert line.startswith("90% of the sampled actions are at their bounds: try --initial-log-std -1")


@pytest.mark.parametrize("name", ["train__entropy", "train__std"])
def test_a_policy_that_stops_exploring_early(name):
    # It falls below 5% of 0.6 in the fifth of 20 iterations, and stays there.
    (line,) = symptoms(rows(**{name: [0.6, 0.4, 0.01, 0.2] + [0.001] * 16}))
    assert line.startswith("the policy stopped exploring after 50 steps (")
    assert "try --entropy-coefficient 0.01" in line
    assert symptoms(rows(**{name: [0.6] * 15 + [0.001] * 5})) == []  # sure of itself late, as it should be


def test_responses_that_no_longer_end_and_a_policy_far_from_its_reference():
    first, second = symptoms([{"step": k, "val/finished": 1.0 - k, "objective/kl": 63.0} for k in range(2)])
    assert first.startswith(
        "almost no response ends before the maximum response length: try a higher --response"
    )
    assert second.startswith(
        "the policy is far from the reference model (KL 63.0 nats per response): try a higher"
    )
    assert symptoms([{"step": 1, "val/finished": 0.5, "objective/kl": 3.0}]) == []


def test_every_option_that_an_advice_names_exists_in_the_commands_that_give_it():
    known = {"train": flat_options(Train)} | {name: flat_options(arguments_of(name)) for name in SAMPLING}
    tried = set()
    for symptom in SYMPTOMS:
        own = dict(re.findall(r"lm (\w+): --([a-z-]+)", symptom.advice))  # a command's name for it
        assert set(own) in (set(), {*SAMPLING})
        shared = re.findall(r"--([a-z-]+)", re.sub(r"\(lm .*?\)", "", symptom.advice))
        for command in own or ["train"]:
            for option in [*shared, own[command]] if own else shared:
                assert option.replace("-", "_") in known[command], (command, option)
                tried.add((command, option))
    assert {
        ("ppo", "kl"),
        ("grpo", "beta"),
        ("grpo", "missing-eos-penalty"),
        ("train", "env-kwargs"),
    } <= tried


class Forever(Probe):
    def turn(self, action):
        return 1.0, False, False


gym.register("Forever-v0", Forever)


def test_train_says_it_at_the_end(tmp_path, capsys):
    words = ["train", "Forever-v0", *WORDS, "--steps", "128"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "note: no episode has ended, so there is no mean return: train for longer, or limit"
    )
    assert main([*words, "--seeds", "2", "--out", str(tmp_path / "b")]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("note: no episode has ended") == 1 and "(2 runs)" in captured.err
    assert "nan" not in captured.out
    assert main([*words, "--quiet", "--out", str(tmp_path / "c")]) == 0
    assert capsys.readouterr().err == ""


class Both(Aim):
    """One entry has bounds that are never reached, one has none, one is always at a bound."""

    action_space = spaces.Box(np.float32([-99, -np.inf, 0]), np.float32([99, np.inf, 1e-9]))


def test_the_share_of_actions_at_a_bound_counts_the_entries_that_have_bounds():
    tiny = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(4,), steps=32)
    found = next(training(small(Both, **tiny, scale_actions=False))).metrics["rollout/actions_at_bounds"]
    assert found == pytest.approx(0.5, abs=1e-3)
    assert "rollout/actions_at_bounds" not in next(training(small(Probe, **tiny))).metrics
    scaled = next(training(small(Aim, **tiny, initial_log_std=3.0))).metrics["rollout/actions_at_bounds"]
    assert scaled > 0.8  # a deviation of 20 where the bounds are -1 and 1
