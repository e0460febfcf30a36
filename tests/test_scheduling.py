"""The example of an environment with masks: two choices that depend on each other."""

import numpy as np
import pytest

import proximo
from examples.scheduling import JOBS, KINDS, Scheduling, heuristic
from proximo.cli import main
from proximo.envs.check import check


def play(act, episodes=50):
    """The mean return of `act(observation, mask)`, on the same days for everyone, and what was seen."""
    env, total, seen = Scheduling(), 0.0, []
    for seed in range(episodes):
        (observation, info), over = env.reset(seed=seed), False
        while not over:
            seen.append((observation, info["action_mask"]))
            action = act(observation, info["action_mask"])
            assert info["action_mask"][tuple(action)]
            observation, reward, over, _, info = env.step(action)
            total += reward
    return total / episodes, seen


def test_the_checker_finds_nothing_wrong():
    assert [found for found in check(Scheduling, steps=200) if found.level != "ok"] == []


def test_a_job_costs_its_euros_until_its_machine_has_done_it_and_those_before():
    env = Scheduling()
    env.reset(seed=0)
    env.kind[:2], env.work[:2], env.cost[:2] = [2, 0], [3.0, 1.5], [4.0, 2.0]
    assert env.legal()[:2].tolist() == [[1, 0, 1], [1, 1, 0]]
    observation, reward, *_, info = env.step(np.array([0, 0]))  # 3 hours of work at half the speed
    assert reward == pytest.approx(-4.0 * 6.0)
    assert observation["kind"][0] == KINDS and observation["numbers"][2 * JOBS] == 6.0
    assert not info["action_mask"][0].any()
    assert env.step(np.array([1, 0]))[1] == pytest.approx(-2.0 * (6.0 + 1.5))


def test_ppo_with_masks_plans_better_than_first_come_first_served_and_acts_the_same_in_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    chance, _ = play(lambda _, mask: random.permutation(np.argwhere(mask))[0])
    rule, _ = play(lambda observation, _: heuristic(observation))
    folder = str(tmp_path / "run")
    words = ["--steps", "12288", "--seed", "0", "--quiet", "--out", folder]
    assert main(["train", "examples/scheduling.py:Scheduling", *words]) == 0
    agent = proximo.load(folder)
    learned, seen = play(lambda observation, mask: agent.act(observation, legal=mask))
    assert chance < 1.2 * rule < 1.2 * learned  # all negative: 1.2 is a fifth worse
    assert main(["export", folder]) == 0
    session = onnxruntime.InferenceSession(f"{folder}/policy.onnx")
    observations = [one for one, _ in seen]
    flags = np.stack([mask for _, mask in seen]).astype(bool).reshape(len(seen), -1)
    batch = {key: np.stack([one[key] for one in observations]) for key in ("kind", "numbers")}
    (found,) = session.run(
        None, {"kind": batch["kind"].astype(np.float32), "numbers": batch["numbers"], "action_mask": flags}
    )
    assert np.mean(found == agent.act(batch, legal=flags.reshape(len(seen), JOBS, -1))) == 1.0
