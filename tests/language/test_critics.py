"""Two critics of one policy: who learns from what, what they say together, and where they disagree."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import FREE, distance, options, ppo, rollouts
from small_models import small_model

from proximo.core import SquaredError
from proximo.errors import UserError
from proximo.language.model.adapters import trainable
from proximo.language.model.layers import Linear
from proximo.language.train.estimators import estimator_of
from proximo.language.train.job import training
from proximo.language.train.options import checked_ppo
from proximo.language.train.policy import (
    critic_of_row,
    evaluate_responses,
    lowest,
    new_policy,
    own_critic,
    own_value,
    where_they_agree,
)
from proximo.language.train.responses import Batch, Responses, response_mask
from proximo.language.train.sampling import Experience, Frozen, Learner, estimate, part_loss, update_options

ALL = jnp.ones((1, 5))
PAIRS = dict(sampling=dict(response_length=6, batch_size=4, samples=2))

evaluated = jax.jit(evaluate_responses, static_argnums=2)


def test_responses_to_a_prompt_go_to_the_critics_in_turn():
    # 2 prompts with 3 responses each: of the first one's the critics get 2 and 1, of the second 1 and 2.
    assert critic_of_row(6, 2).tolist() == [0, 1, 0, 1, 0, 1]
    assert critic_of_row(3, 1).tolist() == [0, 0, 0]


def test_a_responses_value_is_its_own_critics():
    values = jnp.arange(12.0).reshape(2, 2, 3)  # [[[0 1 2] [3 4 5]] [[6 7 8] [9 10 11]]]
    assert own_value(jnp.array([1, 0]), values).tolist() == [[3, 4], [6, 7]]


def test_the_lowest_share():
    x = jnp.array([[5.0, 1.0, 4.0, 2.0, 3.0]])
    assert lowest(x, ALL, 0.4).tolist() == [[0, 1, 0, 1, 0]]  # two of five: 1 and 2
    assert lowest(x, ALL, 0.0).tolist() == [[0, 0, 0, 0, 0]]
    # Of the four that count two are the half: 4 and 2. The lowest of all does not count.
    assert lowest(x, ALL.at[0, 1].set(0), 0.5).tolist() == [[0, 0, 0, 1, 1]]


def test_equal_ones_are_in_no_share():
    assert not np.any(lowest(jnp.zeros((1, 5)), ALL, 0.4))
    assert not np.any(lowest(jnp.zeros((1, 5)), 0 * ALL, 0.4))


def test_where_critics_agree_and_where_they_do_not():
    # 0, 2, 4, 6, 8 apart: standard deviations 0, 1, 2, 3, 4, whose mean is 2. The last is no token's.
    values = jnp.stack([jnp.zeros(6), jnp.array([0.0, 2.0, -4.0, 6.0, -8.0, 99.0])])[None]
    teaches, bonus, facts = where_they_agree(values, ALL, 0.2, 0.4)
    assert teaches.tolist() == [[0, 1, 1, 1, 1]]
    assert bonus.tolist() == [[1, 1, 1, 0, 0]]
    assert facts["val/critics_std"] == 2.0


def test_what_critics_agree_on_keeps_no_advantage_and_what_they_dispute_gets_no_bonus():
    """Two critics of random heads; the shares are of 24 or fewer tokens, by hand."""
    asked = options(
        critic=dict(critic="two", advantage_masking=0.25, entropy_filtering=0.5),
        sampling=dict(response_length=6, batch_size=2, samples=2),
    )
    model, trunk, draw = small_model(layers=1), small_model(layers=1, seed=3), np.random.default_rng(0)
    heads = [Linear(jnp.asarray(draw.normal(size=(16, 1)), jnp.float32), jnp.zeros(1)) for _ in range(2)]
    policy = new_policy(model, *(own_critic(trunk, head) for head in heads))
    rollout = rollouts(asked).collect(model, 0)
    order, number = jnp.zeros((1, 1, 4), int), jnp.asarray(0)
    given = Experience(rollout.responses, *map(jnp.asarray, (rollout.log_prob, rollout.score)), order, number)
    frozen = Frozen(jax.tree.map(lambda _: None, policy), model)

    def batch(critic):
        asking = replace(asked, critic=replace(asked.critic, **critic))
        learner = Learner(policy, None, *estimator_of(asking).begin())
        return estimate(learner, given, update_options(asking), frozen)[0]

    plain, refined = batch(dict(advantage_masking=0.0, entropy_filtering=0.0)), batch({})
    valid = np.asarray(plain.mask) > 0
    values = np.asarray(evaluated(policy, rollout.responses, rollout.width).values)[:, :, :-1]
    gap, many = np.std(values, axis=1), valid.sum()
    low, high = np.sort(gap[valid])[many // 4], -np.sort(-gap[valid])[many // 2]
    assert 0 < (valid & (gap < low)).sum() < (valid & (gap > high)).sum() < many
    kept = np.where(gap < low, 0.0, plain.advantage)
    np.testing.assert_allclose(refined.advantage, np.where(valid, kept, 0.0), atol=1e-6)
    np.testing.assert_array_equal(refined.bonus[valid], (gap <= high)[valid])
    assert np.all(plain.bonus == 1.0)
    np.testing.assert_allclose(plain.value[0], values[0, 0], atol=1e-5)  # the first row is the first critic's
    np.testing.assert_allclose(plain.value[1], values[1, 1], atol=1e-5)


def gradient(policy, batch):
    """Of the critics' loss; the actor's is 0 where no advantage is."""
    asked = options(critic=dict(value_loss=SquaredError()), steps=dict(), kl=FREE)
    weights, frozen = eqx.partition(policy, trainable(policy))
    loss = partial(part_loss, frozen=frozen, price=0.0, options=update_options(asked))
    return jax.jit(jax.grad(loss, has_aux=True))(weights, batch)[0]


def test_each_critic_has_the_gradient_that_one_alone_has():
    """Two responses alike go to a critic each, which then sees what a single critic sees of both."""
    draw = np.random.default_rng(0)
    ids = np.repeat(draw.integers(3, 16, (2, 6)), 2, axis=0)
    target = np.repeat(draw.normal(size=(2, 4)), 2, axis=0).astype(np.float32)
    responses = Responses(jnp.asarray(ids), jnp.full(4, 2), jnp.full(4, 4), jnp.ones(4, bool))
    mask = response_mask(responses.lengths, 4)
    nothing = jnp.zeros_like(mask)
    batch = Batch(responses, nothing, nothing, mask, nothing, weight=mask / 16, share=mask / 16)
    batch = batch._replace(value=nothing, target=jnp.asarray(target), critic=jnp.zeros(4, int))
    model, trunk = small_model(layers=1), small_model(layers=1, seed=3)
    alone = gradient(new_policy(model, own_critic(trunk)), batch).critics[0]
    both = gradient(
        new_policy(model, own_critic(trunk), own_critic(trunk)), batch._replace(critic=critic_of_row(4, 2))
    )
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(alone)) > 0.01
    for critic in both.critics:
        assert distance(critic, alone) < 1e-6


def test_a_critic_learns_from_its_own_responses_alone():
    # Every other response is worth 1, the others nothing: each critic comes to say what it has seen.
    asked = options(
        critic=dict(critic="two", value_coefficient=1.0),
        optimisation=dict(learning_rate=3e-2, schedule="constant"),
        episodes=8 * 25,
        kl=FREE,
        **PAIRS,
    )
    trunks = [small_model(layers=1), small_model(layers=1)]
    trainer = ppo(asked, critics=trunks, functions=[lambda completions: [1.0, 0.0] * (len(completions) // 2)])
    *_, last = training(trainer)
    biases = [float(critic.score.bias[0]) for critic in last.state.weights.critics]
    assert biases[0] > 0.1 + biases[1]
    assert last.metrics["val/critics_std"] > 0.2


def test_masked_advantages_and_filtered_entropy_change_the_step_once_critics_differ():
    def states(**critic):
        asked = options(critic=dict(critic="two", **critic), steps=dict(entropy_coefficient=0.1), **PAIRS)
        trunks = [small_model(layers=1), small_model(layers=1)]
        return [it.state.weights.model for it in training(ppo(asked, critics=trunks))]

    plain, masked, filtered = states(), states(advantage_masking=0.3), states(entropy_filtering=0.3)
    for other in (masked, filtered):
        assert distance(plain[0], other[0]) == 0.0  # both say 0 at first: they agree everywhere, and nowhere
        assert distance(plain[1], other[1]) > 1e-5
    assert distance(masked[1], filtered[1]) > 1e-5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dict(critic=dict(advantage_masking=0.2)), "advantage_masking needs two critics: add --critic two"),
        (dict(critic=dict(critic="separate", entropy_filtering=0.2)), "entropy_filtering needs two critics"),
        (dict(critic=dict(critic="two", advantage_masking=1.0)), "advantage_masking is 1.0: .* below 1"),
        (dict(critic=dict(critic="two", entropy_filtering=-0.1)), "entropy_filtering is -0.1: .* least 0"),
        (
            dict(critic=dict(critic="two", entropy_filtering=0.2), **PAIRS),
            "needs an entropy bonus",
        ),
        (dict(critic=dict(critic="two")), "two critics divide the responses to each prompt: add --samples 2"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        checked_ppo(options(**given))


def test_all_of_it_can_be_asked_for():
    asked = dict(critic="two", advantage_masking=0.2, entropy_filtering=0.2)
    checked_ppo(options(critic=asked, steps=dict(entropy_coefficient=0.01), **PAIRS))
