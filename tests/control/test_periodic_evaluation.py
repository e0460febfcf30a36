"""A run that is evaluated while it trains is the same run, and its best model stays."""

import json
import random
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from probes import BetterAction, Ends, Lucky, Probe, equal, small

import proximo
from proximo import UserError, training
from proximo.cli import main
from proximo.control.files import control_files
from proximo.control.periodic_evaluation import (
    EvalOptions,
    PeriodicEvaluation,
    evaluation_seed,
    undisturbed,
)
from proximo.control.run import train_config
from proximo.control.streams import environment_seeds, streams
from proximo.errors import EvaluationSkipped
from proximo.runs.folder import RunFolder

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(4,))
EVERY = EvalOptions(eval_every=64, eval_episodes=3)
gym.register(
    "Lucky-v0",
    "probes:Lucky",
    vector_entry_point=lambda num_envs: gym.vector.SyncVectorEnv([partial(gym.make, "Lucky-v0")] * num_envs),
)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def seen(folder, name):
    return [(row["time/total_timesteps"], row[name]) for row in lines(folder) if name in row]


class Careless(Probe):
    """Draws from the stream that belongs to everybody."""

    def turn(self, action):
        self.seen = np.random.uniform(-1, 1)
        return np.random.uniform() * float(action), np.random.uniform() < 0.3, False


def test_the_same_bits_of_training_with_and_without_evaluation(tmp_path):
    for env in (Careless, BetterAction):
        runs = []
        for evaluation in (EvalOptions(), EVERY):
            np.random.seed(1)
            out = tmp_path / f"{env.__name__}-{evaluation.eval_every}"
            runs.append(train_config(small(env, steps=300, **TINY), out=out, evaluation=evaluation))
        assert equal(runs[0].agent.policy, runs[1].agent.policy)
        without, with_it = (lines(run.folder) for run in runs)
        assert len(without) == len(with_it)
        for row, other in zip(without, with_it, strict=True):
            assert {n: x for n, x in row.items() if not n.startswith("time/")} == {
                n: x for n, x in other.items() if not n.startswith(("time/", "eval/"))
            }


def test_streams_that_belong_to_everybody_stand_afterwards_where_they_were():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.uniform()
    random.seed(1)
    np.random.seed(1)
    with undisturbed():
        random.random(), np.random.uniform()
    assert (random.random(), np.random.uniform()) == expected


def test_an_evaluation_is_due_after_every_so_many_steps_and_at_the_end(tmp_path):
    run = train_config(small(Lucky, steps=150, **TINY), out=tmp_path / "run", evaluation=EVERY)
    # The first iteration that passes 64 and 128, and the last.
    steps = [row["time/total_timesteps"] for row in lines(run.folder)]
    due = [next(s for s in steps if s >= 64), next(s for s in steps if s >= 128), steps[-1]]
    assert [at for at, _ in seen(run.folder, "eval/mean_reward")] == sorted(set(due))
    assert {score for _, score in seen(run.folder, "eval/mean_reward")} == {2.0}
    assert {score for _, score in seen(run.folder, "eval/mean_ep_length")} == {2.0}
    seeds = environment_seeds(streams(evaluation_seed(0)).evaluation.spawn(2)[0], 3)
    assert seen(run.folder, "eval/success_rate")[0][1] == pytest.approx(sum(s % 2 for s in seeds) / 3)


def test_the_best_model_stays_where_the_last_one_is_worse(tmp_path):
    config = small(BetterAction, steps=600, **TINY)
    iterations = list(training(config))
    folder = RunFolder.create(control_files(config), tmp_path / "run")
    evaluation = PeriodicEvaluation(EVERY, [config], [folder])
    # The trained policy first, the untrained one after it: the worst comes last.
    backwards = [iterations[-1], iterations[0]]
    first = evaluation(backwards[0])
    later = evaluation(backwards[1])
    evaluation.close()
    assert first.metrics["eval/mean_reward"] == 1.0
    assert "eval/mean_reward" not in later.metrics  # it is not due: no step was passed
    best = proximo.load(folder.path, best=True)
    assert equal(best.policy, iterations[-1].agent.policy)
    assert json.loads((folder.path / "best.json").read_text()) == {
        "steps": iterations[-1].steps,
        "mean_reward": 1.0,
        "episodes": 3,
    }


class Falls(Probe):
    """Every episode is worth less than all before it, whoever plays it."""

    worth = 0.0

    def begin(self):
        Falls.worth -= 1.0

    def turn(self, action):
        return Falls.worth, True, False


def test_resume_goes_on_evaluating_and_the_best_score_survives(tmp_path):
    config = small(Falls, steps=200, **TINY)
    Falls.worth = 0.0
    run = train_config(config, out=tmp_path / "run", evaluation=EVERY)
    best = (run.folder / "best.json").read_text()
    before = seen(run.folder, "eval/mean_reward")
    assert json.loads(best)["mean_reward"] == before[0][1] > before[-1][1]
    with pytest.warns(proximo.errors.EpisodesRestarted):
        again = proximo.resume(run.folder, steps=400, env=Falls)
    after = seen(again.folder, "eval/mean_reward")
    assert after[: len(before)] == before and len(after) > len(before)
    assert (run.folder / "best.json").read_text() == best  # nothing later was better
    with pytest.warns(proximo.errors.EpisodesRestarted):
        moved = proximo.resume(run.folder, steps=500, env=Falls, out=tmp_path / "moved", eval_every=16)
    assert (moved.folder / "best.json").read_text() == best
    assert proximo.load(moved.folder, best=True)
    said = json.loads((moved.folder / "config.json").read_text())["evaluation"]
    assert said == {"every": 16, "episodes": 3}


def test_a_resumed_run_is_evaluated_as_the_uninterrupted_one(tmp_path):
    options = dict(eval_every=64, eval_episodes=3, anneal=False, **TINY)
    whole = proximo.train("CartPole-v1", out=tmp_path / "whole", steps=600, **options)
    cut = proximo.train("CartPole-v1", out=tmp_path / "cut", steps=256, **options)
    proximo.resume(cut.folder, steps=600)
    found = [row for row in seen(cut.folder, "eval/mean_reward") if row[0] != 256]  # its own last one
    assert len(found) > 7 and found == [
        row for row in seen(whole.folder, "eval/mean_reward") if row[0] != 256
    ]
    both = [(folder / "best.json").read_text() for folder in (whole.folder, cut.folder)]
    assert both[0] == both[1]


def test_every_member_of_an_ensemble_is_evaluated_and_keeps_its_best(tmp_path):
    options = dict(steps=300, learning_rate=0.01, **TINY)
    runs = proximo.train_ensemble(
        BetterAction, seeds=2, out=tmp_path, eval_every=64, eval_episodes=3, **options
    )
    for run in runs:
        assert len(seen(run.folder, "eval/mean_reward")) >= 3
        assert json.loads((run.folder / "best.json").read_text())["mean_reward"] in (-1.0, 1.0)
        assert proximo.load(run.folder, best=True).act(np.zeros(1, np.float32)) in (0, 1)


def test_the_time_of_evaluations_is_no_time_of_training(tmp_path):
    run = train_config(small(Ends, steps=200, **TINY), out=tmp_path / "run", evaluation=EVERY)
    *_, last = lines(run.folder)
    assert 0.0 < last["time/time_evaluating"] < last["time/time_elapsed"]
    training_seconds = last["time/time_elapsed"] - last["time/time_evaluating"]
    assert last["time/fps"] == pytest.approx(last["time/total_timesteps"] / training_seconds)


def test_an_evaluation_that_fails_is_skipped_and_training_goes_on(
    tmp_path,
):
    class Fails(Ends):
        made = 0

        def __init__(self):
            Fails.made += 1
            self.evaluates = Fails.made <= 3  # those of the evaluation are made first

        def step(self, action):
            if self.evaluates:
                raise ZeroDivisionError("gone")
            return super().step(action)

    with pytest.warns(
        EvaluationSkipped,
        match=r"the evaluation after \d+ steps failed; the run "
        r"continues: .*gone",
    ):
        run = train_config(small(Fails, steps=100, **TINY), out=tmp_path / "run", evaluation=EVERY)
    assert lines(run.folder)[-1]["time/total_timesteps"] >= 100
    assert not seen(run.folder, "eval/mean_reward")
    with pytest.raises(
        UserError, match=r"no best model in .*: a run saves one if it is trained with --eval-every"
    ):
        proximo.load(run.folder, best=True)


def test_what_cannot_be_evaluated_is_refused_before_there_is_a_run(tmp_path):
    with pytest.raises(UserError, match="--eval-every needs environments of its own: pass an id, a class"):
        proximo.train(Ends(), out=tmp_path / "run", eval_every=10, steps=64)
    with pytest.raises(UserError, match="eval_episodes is given without eval_every"):
        proximo.train(Ends, out=tmp_path / "run", eval_episodes=10, steps=64)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["sync", "parallel", "auto", "async", "vector_entry_point"])
def test_success_is_logged_evaluated_and_told_in_every_vectorization_mode(tmp_path, capsys, mode):
    words = ["--num-envs", "2", "--horizon", "16", "--minibatch-size", "32", "--epochs", "1", "--hidden", "4"]
    words += ["--steps", "100", "--vectorization-mode", mode, "--eval-every", "50", "--eval-episodes", "2"]
    out = tmp_path / "run"
    assert main(["train", "Lucky-v0", *words, "--quiet", "--out", str(out)]) == 0
    odd = [s % 2 for s in environment_seeds(streams(0).environments, 2)]
    assert lines(out)[-1]["rollout/success_rate"] == pytest.approx(np.mean(odd), abs=0.02)
    assert lines(out)[-1]["eval/success_rate"] in (0.0, 0.5, 1.0)
    capsys.readouterr()
    assert main(["evaluate", str(out), "--best", "--episodes", "5"]) == 0
    odd = [s % 2 for s in environment_seeds(streams(0).evaluation.spawn(2)[0], 5)]
    assert f"success rate {np.mean(odd):.0%}" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--episodes", "5", "--json", "--save"]) == 0
    assert json.loads(capsys.readouterr().out)["success_rate"] == np.mean(odd)
    assert json.loads((out / "evaluation.json").read_text())["success_rate"] == np.mean(odd)


def test_evaluate_says_nothing_of_success_where_no_environment_tells():
    found = proximo.evaluate(next(training(small(Ends, **TINY))).agent, Ends, episodes=2)
    assert found.success_rate is None and "success" not in str(found)


def test_the_best_and_the_last_are_told_apart_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    train_config(small(Ends, steps=64, **TINY), out=out)
    assert main(["evaluate", str(out), "--best"]) == 2
    assert "no best model" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--best", "--save"]) == 2
