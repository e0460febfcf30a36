"""What each method does to the actor, next to what its paper says it does."""

import math

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import close, equal, small, turns, walk

from proximo import UserError, with_options
from proximo.control.config import validate
from proximo.control.learner import new_learner
from proximo.control.train import training
from proximo.core import (
    AdaptiveKLPenalty,
    PolicyGradient,
    Unclipped,
    explained_variance,
    masked_mean,
    projected_gradient,
)
from proximo.learn.actor_steps import (
    AdaptiveGradient,
    AverageTrustRegion,
    NaturalGradient,
    SingleGradient,
    TrustRegion,
    mean_kl,
    natural_step,
)
from proximo.learn.actor_vector import actor_parts, actor_vector, from_rows, rows, with_actor
from proximo.learn.batches import Steps
from proximo.learn.descend import adam
from proximo.learn.experience import normalised, whole_batch
from proximo.learn.update import actor_problem, step_of_adam, update
from proximo.policies import per_state

CONFIG = small(
    walk("Box"),
    num_envs=8,
    horizon=12,
    minibatch_size=96,
    epochs=1,
    hidden=(3,),
    policy_gain=0.5,
    normalise_observations=True,
    normalise_rewards=True,
    advantage_normalisation="batch",
    advantages="once",
    anneal=False,
)
ALONE = [SingleGradient(), AdaptiveGradient(), NaturalGradient(), TrustRegion(), AverageTrustRegion()]


def named(value):
    return type(value).__name__


@pytest.fixture(scope="module")
def situation():
    """A learner and a rollout of it, with seams among its 96 rows."""
    learner, rollout, _, _, _ = list(turns(CONFIG, 2))[1]
    assert (rollout.mask == 0).sum() > 0
    # Adam has seen nothing: the two turns before moved the actor jointly, and its momentum would go on.
    learner = learner._replace(optimiser=jax.tree.map(jnp.zeros_like, learner.optimiser))
    return learner, jax.tree.map(jnp.asarray, rollout)


def problem_of(situation, objective=Unclipped(), options=CONFIG.update):  # noqa: B008
    learner, rollout = situation
    batch, _ = whole_batch(
        learner.policy,
        normalised(rollout, learner.observations, learner.rewards, options)[0],
        options,
        Steps(options.minibatch_size),
    )
    return actor_problem(batch, objective, jnp.float32(options.learning_rate), options)


def updated(situation, step, **options):
    learner, rollout = situation
    config = with_options(CONFIG, actor_step=step, **options)
    objective = jax.tree.map(jnp.float32, config.update.objective)
    learner = learner._replace(actor_memory=step.start(learner.policy), objective=objective)
    return update(learner, rollout, config.update, 1.0)


# ---- second order


def exact_natural_step(policy, batch, gradient, max_kl, damping):
    """From the dense Fisher matrix, in float64.

    For a Gaussian the Fisher matrix of (mean, log std) is diag(1 / std^2, 2), whatever the mean is; that
    of the parameters is J^T diag(1 / std^2, 2) J, averaged over the states, J the Jacobian of the network.
    """
    flat = actor_vector(policy)
    states = np.flatnonzero(np.asarray(batch.mask).ravel())
    obs = batch.obs.reshape(-1, batch.obs.shape[-1])[states]

    def said(flat):
        distribution = per_state(with_actor(policy, flat)(obs)[0].distribution, (len(obs),))
        return jnp.concatenate([distribution.mean, distribution.log_std], axis=-1)

    jacobian = np.asarray(jax.jit(jax.jacobian(said))(flat), np.float64)  # [S, 2A, P]
    log_std = np.asarray(policy(obs)[0].distribution.log_std, np.float64)
    weight = np.concatenate([np.exp(-2 * log_std), np.full_like(log_std, 2.0)])
    rows = (jacobian * np.sqrt(weight)[:, None]).reshape(-1, len(flat))
    fisher = rows.T @ rows / len(obs) + damping * np.eye(len(flat))
    direction = np.linalg.solve(fisher, np.asarray(gradient, np.float64))
    return direction * np.sqrt(2 * max_kl / (direction @ fisher @ direction))


def test_trpos_step_is_the_exact_natural_gradient(situation):
    learner, problem = situation[0], problem_of(situation)
    flat, evaluate, step = natural_step(learner.policy, problem, 0.01, 0.1, iterations=30)
    gradient = jax.jit(jax.grad(lambda flat: evaluate(flat)[0]))(flat)
    exact = exact_natural_step(learner.policy, problem.batch, gradient, 0.01, 0.1)
    np.testing.assert_allclose(step, exact, atol=2e-4 * np.abs(exact).max())


def test_trpo_stays_in_its_region_and_gains(situation):
    learner, problem = situation[0], problem_of(situation)
    after, metrics = updated(situation, TrustRegion(max_kl=0.02), objective=Unclipped())
    assert metrics["train/line_search_accepted"] == 1.0
    assert 0.25 * 0.02 < problem.kl(after.policy) <= 0.02
    assert problem.surrogate(after.policy) > problem.surrogate(learner.policy)
    np.testing.assert_allclose(metrics["train/kl"], problem.kl(after.policy), rtol=1e-4)


def test_a_line_search_that_fails_leaves_the_actor_bit_for_bit(situation):
    learner, problem = situation[0], problem_of(situation)

    def cliff(said):  # a slope where the policy stands, and worse than that wherever it goes
        here = jnp.all(said.mean == problem.batch.distribution.mean)
        return jnp.where(here, problem.objective(said), -1e3)

    policy, _, metrics = TrustRegion()(learner.policy, (), problem._replace(objective=cliff))
    assert metrics["train/line_search_accepted"] == 0.0 and metrics["train/kl"] == 0.0
    assert equal(actor_parts(policy), actor_parts(learner.policy))


def test_the_natural_gradients_kl_is_nearly_the_one_asked_for(situation):
    # The quadratic approximation holds for short steps: 0.0001 nats; damping takes a part of it.
    after, _ = updated(situation, NaturalGradient(max_kl=1e-4, damping=1e-3), objective=Unclipped())
    assert problem_of(situation).kl(after.policy) == pytest.approx(1e-4, rel=0.1)


def test_trpo_on_choices():
    # The same with a categorical policy: mean KL within the region, and the actor has moved.
    config = with_options(CONFIG, env=walk("MultiDiscrete"), actor_step=TrustRegion(), objective=Unclipped())
    learner, _, _, after, metrics = next(turns(config, 1))
    assert 0.0 < metrics["train/kl"] <= 0.01
    assert not equal(actor_parts(learner.policy), actor_parts(after.policy))


# ---- first order


def test_a2c_at_one_epoch_is_the_policy_gradient(situation):
    learner, rollout = situation
    options = with_options(CONFIG, objective=PolicyGradient(), entropy_coefficient=0.01).update
    objective = jax.tree.map(jnp.float32, options.objective)
    after, _ = update(learner._replace(objective=objective), rollout, options, 1.0)
    batch = problem_of(situation, options=options).batch

    def loss(policy):  # eq. 2, the critic's squared error and the entropy bonus, written out
        (distribution, value), _ = policy(batch.obs)
        gain = distribution.log_prob(batch.action) * batch.advantage + 0.01 * distribution.entropy()
        miss = 0.5 * jnp.square(value - batch.target)[..., 0]
        return masked_mean(0.5 * miss - gain, batch.mask)

    policy, _, _ = step_of_adam(options)(
        learner.policy, learner.optimiser, jax.jit(jax.grad(loss))(learner.policy), options.learning_rate
    )
    assert close(policy, after.policy, 1e-6)
    # At ratio 1 every objective is the policy gradient, so the first step of PPO is A2C's.
    clipped, _ = update(learner, rollout, with_options(CONFIG, entropy_coefficient=0.01).update, 1.0)
    assert close(clipped.policy, after.policy, 1e-6)


@pytest.mark.parametrize("step", ALONE, ids=named)
def test_the_actor_moves_once_and_the_critic_in_every_epoch(situation, step):
    learner, _ = situation
    once, _ = updated(situation, step, epochs=1)
    thrice, _ = updated(situation, step, epochs=3)
    assert equal(actor_parts(once.policy), actor_parts(thrice.policy))
    assert not equal(actor_parts(once.policy), actor_parts(learner.policy))
    assert not equal(once.policy.critic, thrice.policy.critic)
    assert not equal(once.policy.critic, learner.policy.critic)


def test_a_single_gradient_is_one_adam_step_of_the_policy_gradient(situation):
    learner, problem = situation[0], problem_of(situation, PolicyGradient())
    gradients = jax.jit(jax.grad(lambda policy: -problem.surrogate(policy)))(learner.policy)
    moments = adam(learner.policy)
    by_hand, _, _ = step_of_adam(CONFIG.update)(learner.policy, moments, gradients, 0.01)
    after, _ = updated(situation, SingleGradient(), objective=PolicyGradient(), learning_rate=0.01)
    assert close(actor_parts(after.policy), actor_parts(by_hand), 1e-6)


def test_the_adapted_step_size(situation):
    # It starts at the learning rate, then: x 1.5 where the KL stays under half the target, / 1.5 above twice.
    for target, factor in ((1e3, 1.5), (1e-9, 1 / 1.5)):
        after, metrics = updated(situation, AdaptiveGradient(target), learning_rate=1e-3)
        assert metrics["train/actor_learning_rate"] == pytest.approx(1e-3)
        assert float(after.actor_memory[1]) == pytest.approx(1e-3 * factor)
        again, metrics = update(
            after, situation[1], with_options(CONFIG, actor_step=AdaptiveGradient(target)).update, 1.0
        )
        assert metrics["train/actor_learning_rate"] == pytest.approx(1e-3 * factor)
        assert float(again.actor_memory[1]) == pytest.approx(1e-3 * factor**2)


def test_acers_region_is_no_region_where_it_is_wide(situation):
    wide, _ = updated(situation, AverageTrustRegion(limit=1e6))
    plain, _ = updated(situation, SingleGradient())
    assert close(actor_parts(wide.policy), actor_parts(plain.policy), 1e-6)


def test_acers_region_bends_the_gradient_and_the_average_follows(situation):
    learner, problem = situation[0], problem_of(situation)
    step = AverageTrustRegion(limit=1e-9, decay=0.9)
    moments, _ = step.start(learner.policy)
    elsewhere = with_actor(learner.policy, actor_vector(learner.policy) + 0.1)
    said, anchor = (
        per_state(problem.batch.read_by(p).distribution, (12, 8)) for p in (learner.policy, elsewhere)
    )

    def pulled(policy):  # by hand: the bent gradient per state, fixed, times what the policy says
        uphill = rows(jax.grad(lambda d: jnp.sum(problem.objective(d)))(said), (12, 8))
        away = rows(jax.grad(lambda d: jnp.sum(anchor.kl(d)))(said), (12, 8))
        bent = projected_gradient(uphill, away, 1e-9)
        # no gain is taken along the KL, wherever the gradient pointed away from the average
        assert float(jnp.max(jnp.sum(bent * away, axis=-1))) < 1e-5
        now = rows(per_state(problem.batch.read_by(policy).distribution, (12, 8)), (12, 8))
        return -masked_mean(jnp.sum(bent * now, axis=-1), problem.batch.mask)

    gradients = jax.grad(pulled)(learner.policy)
    expected, _, _ = step_of_adam(CONFIG.update)(learner.policy, moments, gradients, problem.learning_rate)
    policy, (_, average), _ = step(learner.policy, (moments, elsewhere), problem)
    assert close(actor_parts(policy), actor_parts(expected), 1e-6)
    plain, _, _ = SingleGradient()(learner.policy, moments, problem)
    assert not close(actor_parts(policy), actor_parts(plain), 1e-4)
    followed = 0.9 * actor_vector(elsewhere) + 0.1 * actor_vector(policy)
    np.testing.assert_allclose(actor_vector(average), followed, rtol=1e-5, atol=1e-6)


# ---- what the objective and the rate carry on


def test_without_a_baseline_the_actor_sees_the_returns(situation):
    options = with_options(CONFIG, gae_lambda=1.0, advantage_normalisation="none")
    reduced = problem_of(situation, options=options.update).batch
    whole = problem_of(situation, options=with_options(options, baseline=False).update).batch
    assert equal(whole.advantage, reduced.target[..., 0]) and equal(whole.target, reduced.target)
    np.testing.assert_allclose(whole.advantage, reduced.advantage + reduced.value[..., 0], rtol=1e-6)
    # The recomputed advantages of `every-epoch` are the returns too.
    every = dict(gae_lambda=1.0, advantage_normalisation="none", baseline=False, advantages="every-epoch")
    once = updated(situation, CONFIG.update.actor_step, **{**every, "advantages": "once"})
    again = updated(situation, CONFIG.update.actor_step, **every)
    assert close(once[0].policy, again[0].policy, 1e-6)
    assert explained_variance(whole.value[..., 0], whole.target[..., 0], whole.mask) == pytest.approx(
        float(again[1]["train/explained_variance"]), abs=1e-5
    )


def test_the_penalty_follows_the_kl_of_whole_updates(situation):
    learner, rollout = situation
    for target, factor in ((1e-9, 2.0), (1e3, 0.5)):
        options = with_options(CONFIG, objective=AdaptiveKLPenalty(target), epochs=2).update
        penalty = jax.tree.map(jnp.float32, AdaptiveKLPenalty(target, beta=3.0))
        after, metrics = update(learner._replace(objective=penalty), rollout, options, 1.0)
        assert metrics["train/kl_coefficient"] == 3.0  # of this update
        assert (
            after.objective.beta == 3.0 * factor and after.objective.target == penalty.target
        )  # of the next
        assert metrics["train/kl"] == pytest.approx(
            float(mean_kl(after.policy, problem_of(situation).batch)), rel=1e-3
        )


def test_a_new_learner_starts_at_the_coefficient_that_was_asked_for():
    class Envs:
        spaces = (gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Box(-1.0, 1.0, (1,)))
        action = type("codec", (), {"kind": None})
        settle = staticmethod(lambda: None)

    from proximo.control.streams import streams
    from proximo.core.types import Continuous

    Envs.action.kind = Continuous(1)
    config = with_options(CONFIG, objective=AdaptiveKLPenalty(0.01, beta=7.0), learning_rate=0.5)
    learner = new_learner(config, Envs, streams(0))
    assert learner.objective.beta == 7.0 and learner.learning_rate == 0.5


def test_the_learning_rate_follows_the_kl_after_every_epoch(situation):
    learner, rollout = situation
    for target, factor in ((1e3, 1.5), (1e-9, 1 / 1.5)):
        options = with_options(CONFIG, learning_rate_kl=target, epochs=3, anneal=True).update
        start = learner._replace(learning_rate=jnp.float32(1e-3))
        after, metrics = update(start, rollout, options, 0.5)
        assert metrics["train/learning_rate"] == pytest.approx(1e-3)  # annealing has no part in it
        assert float(after.learning_rate) == pytest.approx(1e-3 * factor**3, rel=1e-5)


def test_a_scheduled_spread_follows_its_line_and_is_not_learned():
    # Table 4: from -0.7 to -1.6; here 4 updates of 128 steps of 512, at 1, 0.75, 0.5 and 0.25 left.
    config = small(
        walk("Box"), steps=512, normalise_rewards=True, initial_log_std=-0.7, final_log_std=-1.6, epochs=2
    )
    iterations = list(training(config))
    steps = [0] + [iteration.steps for iteration in iterations[:-1]]
    expected = [math.exp(-1.6 + 0.9 * (1 - before / 512)) for before in steps]
    assert [i.metrics["train/std"] for i in iterations] == pytest.approx(expected, rel=1e-5)
    heads = [iteration.learner.policy.head.log_std for iteration in iterations]
    for head, before in zip(heads, steps, strict=True):
        np.testing.assert_allclose(head, -1.6 + 0.9 * (1 - before / 512), rtol=1e-5)


# ---- the parts


def test_an_actor_and_its_vector(situation):
    policy = situation[0].policy
    flat = actor_vector(policy)
    assert equal(with_actor(policy, flat), policy)
    other = with_actor(policy, flat + 1.0)
    assert equal(other.critic, policy.critic)
    np.testing.assert_array_equal(actor_vector(other), flat + 1.0)


def test_rows_and_back(situation):
    said = problem_of(situation).batch.distribution
    vectors = rows(said, (12, 8))
    assert vectors.shape == (12, 8, 4)  # two means, two log standard deviations
    assert equal(from_rows(vectors, said), said)


def test_garbage_under_the_mask_moves_no_actor(situation):
    learner, rollout = situation
    seam = rollout.mask == 0
    dirty = rollout._replace(
        reward=jnp.where(seam[..., None], 1e6, rollout.reward),
        action=jnp.where(seam[..., None], 1e6, rollout.action),
    )
    for step in ALONE:
        clean_after, _ = updated((learner, rollout), step)
        dirty_after, _ = updated((learner, dirty), step)
        assert close(clean_after.policy, dirty_after.policy, 1e-6), named(step)


@pytest.mark.parametrize("step", ALONE, ids=named)
def test_an_actor_of_its_own_needs_networks_of_its_own(step):
    with pytest.raises(UserError, match="separate networks"):
        validate(with_options(CONFIG, actor_step=step, shared=True))
