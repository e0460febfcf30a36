"""Options of language models: by flat names, as plain data and back, and one-of-several as single words."""

import dataclasses
import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from proximo.arguments import choice_argument
from proximo.core import (
    AdaptiveKL,
    Clip,
    ClippedSquaredError,
    ConservativeLoss,
    DualClip,
    FixedKL,
    Huber,
    IPOLoss,
    LeaveOneOut,
    ProportionalKL,
)
from proximo.errors import UserError
from proximo.language.inputs import model_folder, with_folders
from proximo.language.running import COMMANDS, method
from proximo.language.train.options import GRPOOptions, PPOOptions, checked_ppo
from proximo.options import as_json, flat_options, from_json, options_from, unknown

MINIMAL = {"model": "some/model", "data": "prompts.jsonl"}


# ---- flat names


def test_a_flat_name_finds_its_part():
    options = options_from(PPOOptions, MINIMAL | {"learning_rate": 1e-4, "gae_lambda": 0.9, "episodes": 64})
    assert options.optimisation.learning_rate == 1e-4 and options.critic.gae_lambda == 0.9
    assert options.episodes == 64
    # All others are the class's own defaults, those of a nested default too.
    assert options.sampling == PPOOptions.__dataclass_fields__["sampling"].default_factory()
    assert options_from(GRPOOptions, MINIMAL).sampling.samples == 8


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_options_share_a_flat_name(command):
    kind, _ = method(command)

    def leaves(kind):
        for name, declared in get_type_hints(kind).items():
            yield from leaves(declared) if dataclasses.is_dataclass(declared) else [name]

    names = list(leaves(kind))
    assert len(names) == len(set(names))
    assert set(names) == set(flat_options(kind))


def test_the_same_option_may_be_said_in_the_ways_of_python():
    said = {"reward_model": "rm", "lora_targets": ["query"], "out": "runs/x", "kl": AdaptiveKL(6.0)}
    options = options_from(PPOOptions, MINIMAL | said | {"learning_rate": 1, "model": Path("some/model")})
    assert options.rewards.reward_model == ("rm",)  # one of what may be several
    assert options.model.lora_targets == ("query",)  # a list is as good as a tuple
    assert options.run.out == Path("runs/x")
    assert options.model.model == "some/model"
    assert type(options.optimisation.learning_rate) is float


def test_numbers_of_numpy_are_plain_numbers():
    given = {"learning_rate": np.float32(0.5), "seed": np.int64(3), "kl": AdaptiveKL(np.float64(6.0))}
    options = options_from(PPOOptions, MINIMAL | given | {"reward_weights": np.array([1.0, 2.0])})
    plain = {"learning_rate": 0.5, "seed": 3, "kl": AdaptiveKL(6.0), "reward_weights": (1.0, 2.0)}
    assert repr(options) == repr(options_from(PPOOptions, MINIMAL | plain))
    json.dumps(as_json(options))


def test_whole_numbers_stand_for_numbers_in_lists_too():
    for given in ([1, -0.5], (1, -0.5)):
        weights = options_from(PPOOptions, {**MINIMAL, "reward_weights": given}).rewards.reward_weights
        assert weights == (1.0, -0.5) and type(weights[0]) is float
    for alone in (2, 2.0):
        assert options_from(PPOOptions, {**MINIMAL, "reward_weights": alone}).rewards.reward_weights == (2.0,)
    with pytest.raises(UserError, match="reward_weights is "):
        options_from(PPOOptions, {**MINIMAL, "reward_weights": [1, "2"]})


def test_clip_is_short_for_the_clipped_objective():
    assert options_from(PPOOptions, MINIMAL | {"clip": 0.1}).steps.objective == Clip(0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learn_rate": 1.0}, "there is no option 'learn_rate'; the nearest: learning_rate"),
        ({"seed": 0.5}, "seed is 0.5: it must be a whole number"),
        ({"seed": True}, "seed is True: it must be a whole number"),
        ({"kl_in": "nowhere"}, "kl_in is 'nowhere': it must be one of reward, loss"),
        (
            {"objective": "clip"},
            "objective is 'clip': in Python write Clip(...), from",
        ),
        ({"target_kl": "much"}, "target_kl is 'much': it must be a number or None"),
        ({"lora_targets": [1]}, "lora_targets is (1,): it must be a list, each text"),
        ({"clip": "big"}, "clip is 'big': it must be a number"),
    ],
)
def test_a_mistake_in_a_name_or_a_value_is_told(given, message):
    with pytest.raises(UserError) as error:
        options_from(PPOOptions, MINIMAL | given)
    assert message in str(error.value) and "\n" not in str(error.value)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kl": FixedKL(-1.0)}, "FixedKL's beta is -1.0: it must be at least 0"),
        ({"kl": AdaptiveKL(target=0.0)}, "AdaptiveKL's target is 0.0: it must be above 0"),
        ({"kl": ProportionalKL(target=0.0)}, "ProportionalKL's target is 0.0: it must be above 0"),
        ({"kl": ProportionalKL(horizon=0.0)}, "ProportionalKL's horizon is 0.0: it must be above 0"),
        ({"clip": -0.2}, "Clip's epsilon is -0.2: it must be above 0"),
        ({"objective": DualClip(0.2, 1.0)}, "DualClip's bound is 1.0: it must be above 1"),
        ({"value_loss": ClippedSquaredError(-1.0)}, "ClippedSquaredError's epsilon is -1.0"),
        ({"value_coefficient": -1.0}, "value_coefficient is -1.0: it must be at least 0"),
        ({"entropy_coefficient": NAN}, "entropy_coefficient is nan: it must be finite and at least 0"),
        ({"micro_batch_tokens": -5}, "micro_batch_tokens is -5: it must be at least 1"),
        ({"critic_warmup": -3}, "critic_warmup is -3: it must be at least 0"),
        (
            {"critic_warmup": 5, "episodes": 300},
            "critic_warmup is 5, but the run has 5 iterations: lower it, or the policy never learns",
        ),
        ({"target_kl": 0.0}, "target_kl is 0.0: it must be above 0"),
        ({"missing_eos_penalty": NAN}, "missing_eos_penalty is nan: it must be finite"),
        ({"reward_weights": (1.0, NAN)}, "reward_weights is (1.0, nan): each must be finite"),
        ({"temperature": INFINITE}, "temperature is inf: it must be finite and at least 0"),
        ({"gamma": 1.5}, "gamma is 1.5: it must lie between 0 and 1"),
        ({"seed": -1}, "seed is -1: it must lie between 0 and 9223372036854775807"),
        (
            {"seed": 2**63},
            "seed is 9223372036854775808: it must lie between 0 and 9223372036854775807",
        ),
    ],
)
def test_a_number_that_cannot_be_is_told(given, message):
    options = options_from(PPOOptions, MINIMAL | given)
    with pytest.raises(UserError) as error:
        checked_ppo(options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_at_the_edge_of_what_can_be():
    given = {"kl": FixedKL(0.0), "seed": 2**63 - 1, "critic_warmup": 0, "gamma": 1.0, "target_kl": None}
    options = options_from(PPOOptions, MINIMAL | given | {"missing_eos_penalty": 0.0, "temperature": 1e-3})
    assert checked_ppo(options) == options


def test_a_greedy_policy_can_be_measured_but_not_trained():
    options = options_from(PPOOptions, MINIMAL | {"temperature": 0.0})
    assert checked_ppo(options, greedy=True) == options
    with pytest.raises(UserError, match=r"temperature is 0\.0: it must be above 0, since a greedy policy"):
        checked_ppo(options)


def test_what_has_no_default_must_be_given():
    with pytest.raises(UserError, match="data is missing: it must be text"):
        options_from(PPOOptions, {"model": "some/model"})


def test_a_name_that_is_near_nothing_has_no_hint():
    assert str(unknown("zzz", ["learning_rate"])) == "there is no option 'zzz'"


# ---- a run stands for its model


def test_a_run_stands_for_the_model_in_it(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    run, inside = str(tmp_path / "run"), str(tmp_path / "run" / "model")
    assert model_folder(run) == model_folder(inside) == inside
    assert model_folder("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    given = {"model": run, "reward_model": [run, "other"], "critic_from": run}
    options = with_folders(options_from(PPOOptions, MINIMAL | given))
    found = options.model.model, options.rewards.reward_model, options.critic.critic_from
    assert found == (inside, (inside, "other"), inside)


def test_a_run_without_a_model_yet_is_told(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="has no model yet"):
        model_folder(tmp_path)


# ---- as plain data, and back

CHANGED = {"reward_model": ["a", "b"], "clip": 0.1, "kl": AdaptiveKL(6.0), "value_loss": Huber(2.0)}


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("sft", {"out": "runs/x", "packing": False}),
        ("reward", {"evaluation_share": 0.5}),
        ("dpo", {"loss": ConservativeLoss(0.1)}),
        ("ppo", CHANGED | {"target_kl": 0.1, "critic_lambda": 1}),
        ("grpo", {"advantage": LeaveOneOut(), "objective": DualClip(0.2, 3.0)}),
    ],
)
def test_options_come_back_from_a_file_as_they_were(command, given):
    kind, _ = method(command)
    options = options_from(kind, MINIMAL | given)
    assert from_json(kind, json.loads(json.dumps(as_json(options))), "config.json") == options


def spoiled(**changes):
    data = as_json(options_from(PPOOptions, MINIMAL))
    return {key: value for key, value in (data | changes).items() if value is not Ellipsis}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        "PPOOptions",
        spoiled(name="SFTOptions"),
        spoiled(data=...),
        spoiled(data=3),
        spoiled(episodes="many"),
        spoiled(episodes=True),
        spoiled(new_option=1),
        spoiled(kl={"name": "subprocess.run"}),
        spoiled(kl={"name": "Clip", "epsilon": 0.2}),  # a class of ours, but not of this option
        spoiled(kl={"name": "FixedKL", "beta": "0.1"}),
        spoiled(kl=0.1),
        spoiled(kl_in="nowhere"),
        spoiled(run={"name": "RunOptions", "seed": None}),
        spoiled(model=[]),
    ],
)
def test_a_file_that_says_anything_else_is_refused(data):
    with pytest.raises(UserError, match=r"x\.json does not describe options of this version"):
        from_json(PPOOptions, data, "x.json")


# ---- one of several kinds, as one word of the command line


def read(command, option, word):
    return choice_argument(flat_options(method(command)[0])[option].declared).instance_from_str([word])


@pytest.mark.parametrize(
    ("command", "option", "word", "value"),
    [
        ("ppo", "objective", "dual-clip:0.2,3", DualClip(0.2, 3.0)),
        ("ppo", "objective", "clip", Clip(0.2)),
        ("ppo", "kl", "adaptive-kl:6", AdaptiveKL(target=6.0)),
        ("ppo", "kl", "fixed:0.1", FixedKL(0.1)),  # all of them end with "kl": it may be left out
        ("ppo", "value_loss", "huber:delta=2", Huber(2.0)),
        ("grpo", "advantage", "leave-one-out", LeaveOneOut()),
        ("dpo", "loss", "ipo", IPOLoss()),
        ("dpo", "loss", "ipo-loss:false", IPOLoss(per_token=False)),
        ("dpo", "loss", "ipo:per_token=1", IPOLoss(per_token=True)),
    ],
)
def test_a_choice_is_one_word(command, option, word, value):
    assert read(command, option, word) == value


@pytest.mark.parametrize("word", ["clap", "clip:0.1,0.2", "clip:width=1", "dual:0.2"])
def test_a_choice_that_cannot_be_is_refused(word):
    with pytest.raises(ValueError):
        read("ppo", "objective", word)
