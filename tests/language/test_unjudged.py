"""Reward functions as TRL documents them: None for what a function does not judge, and `async` ones."""

import asyncio
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import grpo, options, ppo, rollouts
from small_models import small_model
from workplace import lines, workplace

import proximo.language as language
from proximo.errors import UserError
from proximo.language.train.options import GRPOOptions, PPOOptions
from proximo.language.train.rewards import call_rewards, weighted
from proximo.language.train.sampling import Experience, Frozen, estimate

MODEL = small_model(layers=1)


def collected(*functions, **given):
    return rollouts(options(**given), functions).collect(MODEL, 0)


# ---- None


def test_what_a_function_does_not_judge_is_left_out_of_the_sum():
    """Two tasks in one data set, a function for each: 1 x 1, 2 x 5, and 1 x 3 + 2 x 4."""
    arithmetic, spelling = (lambda task, **_: [1.0, None, 3.0]), (lambda task, **_: [None, 5.0, 4.0])
    parts = call_rewards(
        {"arithmetic": arithmetic, "spelling": spelling},
        ["a", "b", "c"],
        ["x", "y", "z"],
        [[1], [2], [3]],
        {"task": ["sum", "word", "both"]},
    )
    assert weighted(parts, (1.0, 2.0)).tolist() == [1.0, 10.0, 11.0]
    np.testing.assert_array_equal(parts["arithmetic"], [1.0, np.nan, 3.0])


def test_a_source_is_measured_over_what_it_judges():
    half = [1.0, None, 3.0, None] * 2
    found = collected(lambda completions: half, lambda completions: [10.0] * 8)
    assert found.score.tolist() == [11.0, 10.0, 13.0, 10.0] * 2
    assert found.metrics["rewards/<lambda>"] == 2.0 and found.metrics["rewards/<lambda>-2"] == 10.0
    assert found.rows()[1]["rewards/<lambda>"] is None and found.rows()[1]["score"] == 10.0
    assert "val/unjudged" not in found.metrics


def test_an_answer_that_nothing_judges_is_counted():
    found = collected(lambda completions: [1.0, None, 3.0, None] * 2)
    assert np.isnan(found.score).tolist() == [False, True] * 4
    assert found.metrics["val/unjudged"] == 4.0
    assert found.metrics["rewards/std"] == 1.0  # of 1, 3, 1, 3
    row = json.loads(json.dumps(found.rows()[1], allow_nan=False))
    assert row["score"] is None


def test_a_batch_that_nothing_judges_is_refused():
    with pytest.raises(
        UserError, match=r"none of 8 completions has a score \(<lambda> returned None.*: return a"
    ):
        collected(lambda completions: [None] * 8)


@pytest.mark.parametrize(("make", "kind"), [(ppo, PPOOptions), (grpo, GRPOOptions)], ids=["ppo", "grpo"])
def test_nothing_is_learned_from_what_is_not_judged(make, kind):
    trainer, judged = make(options(kind)), np.array([True, False, True, True] * 2)
    score = np.arange(8, dtype=np.float32)
    found = trainer.rollouts.collect(MODEL, 0)
    given = map(jnp.asarray, (found.log_prob, np.where(judged, score, np.nan), np.zeros((1, 1, 8), int), 0))
    frozen = Frozen(trainer.frozen, trainer.reference)
    experience = Experience(found.responses, *given)
    batch, _, facts = estimate(trainer.begin(), experience, trainer.update_options, frozen)
    assert not np.any(batch.mask[~judged]) and np.all(batch.mask[judged].sum(axis=1) > 0)
    assert facts["objective/scores"] == score[judged].mean()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((batch, facts)))


@pytest.mark.parametrize(("make", "kind"), [(ppo, PPOOptions), (grpo, GRPOOptions)], ids=["ppo", "grpo"])
def test_a_run_goes_on_with_the_others(make, kind):
    trainer = make(options(kind), functions=(lambda completions: [1.0, None, 3.0, 0.0] * 2,))
    outcome = trainer.iterate(trainer.begin(), 0)
    assert outcome.metrics["val/unjudged"] == 2.0 and outcome.metrics["policy/grad_norm"] > 0
    assert all(np.isfinite(list(outcome.metrics.values())))


def test_measuring_leaves_them_out(tmp_path):
    place = workplace(tmp_path)
    lines(place / "prompts.jsonl", [{"prompt": f"{i} ", "level": i} for i in range(4)])
    found = language.evaluate(
        model=str(place / "base"),
        data=str(place / "prompts.jsonl"),
        reward=lambda level, **_: [None if one == 3 else float(one) for one in level],
        response_length=4,
        samples=2,
    )
    assert found["reward"] == 1.0 and found["answers"] == 8  # of 0, 1 and 2
    assert found["notes"][-1] == "2 of 8 responses were scored by no function and are left out"


# ---- async


def scores(function, **more):
    return call_rewards({"mine": function}, ["a", "b"], ["x", "yy"], [[1], [2, 3]], more)["mine"]


def test_coroutines_are_waited_for():
    async def lengths(completions, level, **_):
        await asyncio.sleep(0)
        return [len(text) + one if one else None for text, one in zip(completions, level, strict=True)]

    np.testing.assert_array_equal(scores(lengths, level=[10, 0]), [11.0, np.nan])
    assert scores(lambda **columns: lengths(**columns), level=[1, 1]).tolist() == [2.0, 3.0]


def test_coroutines_wait_side_by_side_in_one_loop_and_in_a_notebook_too():
    """Each waits for what the other does: one after the other they would wait for ever."""
    seen, events = [], {}

    async def meets(mine, other):
        loop = asyncio.get_running_loop()
        seen.append(loop)
        events.setdefault(mine, asyncio.Event()).set()
        await asyncio.wait_for(events.setdefault(other, asyncio.Event()).wait(), 20)
        return [1.0]

    async def first(completions):
        return await meets("a", "b")

    async def second(completions):
        return await meets("b", "a")

    async def in_a_notebook():
        return call_rewards({"first": first, "second": second}, ["p"], ["c"], [[1]], {})

    assert asyncio.run(in_a_notebook()) == {"first": [1.0], "second": [1.0]}
    assert call_rewards({"first": first}, ["p"], ["c"], [[1]], {}) == {"first": [1.0]}
    assert len({*seen}) == 1  # what a function keeps open, such as a connection, stays usable


def test_what_goes_wrong_in_a_coroutine_is_told_like_anything_else():
    async def fragile(completions):
        return [1 / (len(text) < 2) for text in completions]

    async def short(completions):
        return [1.0]

    async def nothing(completions):
        return None

    said = "the reward function mine raised ZeroDivisionError: division by zero for completion 1 of the batch"
    for function, message in (
        (fragile, said),
        (short, "the reward function mine returned a list of length 1 for a batch of 2"),
        (nothing, "mine raised TypeError: 'NoneType' object is not iterable for completion 0"),
    ):
        with pytest.raises(UserError, match=message):
            scores(function)


@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_not_left_behind_where_another_function_fails():
    async def fine(completions):
        return [1.0, 2.0]

    with pytest.raises(UserError, match="other raised TypeError"):
        call_rewards({"mine": fine, "other": len}, ["a", "b"], ["x", "y"], [[1], [2]], {})


# ---- what TRL passes besides the data


ASKING = {
    "trainer_state": lambda completions, trainer_state: [1.0],
    "log_extra": lambda completions, log_extra: [1.0],
    "log_metric": lambda completions, log_metric: [1.0],
    "environments": lambda completions, *, environments: [1.0],
}


@pytest.mark.parametrize("argument", ASKING)
def test_an_argument_that_only_trl_passes_is_told_before_the_run(argument):
    with pytest.raises(UserError, match=f"<lambda> requires {argument}, which only TRL passes") as error:
        rollouts(options(), [ASKING[argument]])
    assert str(error.value).endswith(f"give it a default, {argument}=None")


def test_an_argument_with_a_default_keeps_it():
    def score(completions, trainer_state=None, log_metric=None, **columns):
        assert trainer_state is None and log_metric is None and "log_extra" not in columns
        return [1.0] * len(completions)

    assert collected(score).score.tolist() == [1.0] * 8
