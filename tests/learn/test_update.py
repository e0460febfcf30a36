"""One update: what changes it, what must not, and where it stops."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import KINDS, beginning, close, equal, small, turns, walk

from proximo import with_options
from proximo.core import Clip, ClippedSquaredError, Huber, PolicyGradient, SquaredError, Unclipped
from proximo.core.types import Experience
from proximo.learn import descend
from proximo.learn.batches import Steps, permutation
from proximo.learn.update import update

ONE_STEP = dict(epochs=1, minibatch_size=96, advantages="once")
CONFIG = small(
    walk("Discrete"),
    num_envs=8,
    horizon=12,
    minibatch_size=24,
    epochs=3,
    hidden=(8,),
    policy_gain=0.5,
    normalise_observations=True,
)


@pytest.fixture(scope="module")
def situation():
    """A learner and a rollout of it, with seams, deaths and time limits among its 96 rows."""
    learner, rollout, _, _, _ = list(turns(CONFIG, 2))[1]
    assert (rollout.mask == 0).sum() > 0 and rollout.terminated.any() and rollout.truncated.any()
    return learner, jax.tree.map(jnp.asarray, rollout)


def updated(situation, remaining=1.0, **options):
    learner, rollout = situation
    options = with_options(CONFIG, **options).update
    return update(with_objective(learner, options), rollout, options, remaining)


def with_objective(learner, options):
    """The learner as if it had begun with the objective of these options."""
    return learner._replace(objective=jax.tree.map(jnp.float32, options.objective))


def distance(a, b):
    """How far apart two learners' policies are."""
    return float(optax.global_norm(jax.tree.map(jnp.subtract, a.policy, b.policy)))


def adam(learner, part):
    """A part of Adam's memory: `mu`, `nu` or `count`."""
    return optax.tree_utils.tree_get(learner.optimiser, part)


def forgetful(situation):
    """The situation with an optimiser that has seen nothing."""
    learner, rollout = situation
    return learner._replace(optimiser=jax.tree.map(jnp.zeros_like, learner.optimiser)), rollout


# ---- garbage under the mask


@pytest.mark.parametrize(("kind", "normalisation"), [("Discrete", "minibatch"), ("Box", "batch")])
def test_garbage_under_the_mask_changes_nothing(kind, normalisation):
    config = small(
        walk(kind),
        epochs=2,
        normalise_observations=True,
        normalise_rewards=True,
        advantage_normalisation=normalisation,
        entropy_coefficient=0.1,
    )
    learner, rollout, _, clean, metrics = next(turns(config, 1))
    seam = rollout.mask == 0
    after_death = seam & np.pad(rollout.terminated[:-1], ((1, 0), (0, 0)))
    assert after_death.any() and (seam & ~after_death).any()
    obs, action, reward = (np.array(x) for x in (rollout.obs, rollout.action, rollout.reward))
    reward[seam] = 1e6
    action[seam] = 2 - action[seam] if kind == "Discrete" else 1e6
    # After a time limit the seam's observation is the true successor and counts; after a death nothing does.
    obs[:-1][after_death] = 1e6
    dirty, dirty_metrics = update(
        learner, rollout._replace(obs=obs, action=action, reward=reward), config.update, 1.0
    )
    assert equal(dirty, clean)
    assert equal(dirty_metrics, metrics)


def test_the_ratio_is_to_whoever_acted(situation):
    learner, rollout = situation
    output, _ = learner.policy(learner.observations(rollout.obs[:-1]))
    own = output.distribution.log_prob(rollout.action)
    said, _ = updated((learner, rollout._replace(log_prob=own)), **ONE_STEP)
    unsaid, _ = updated(situation, **ONE_STEP)
    assert close(said.policy, unsaid.policy, 1e-6) and distance(said, learner) > 1e-3
    # Whoever found every action half as likely: the ratio is 2, and k3 = 2 - 1 - log 2.
    _, metrics = updated((learner, rollout._replace(log_prob=own - np.log(2))), **ONE_STEP)
    np.testing.assert_allclose(metrics["train/approx_kl"], 1 - np.log(2), rtol=1e-5)
    np.testing.assert_allclose(metrics["train/clip_fraction"], 1.0, rtol=1e-6)


def test_a_cost_is_learned_by_a_critic_of_two_and_moves_no_actor(situation):
    learner, rollout = forgetful(situation)
    options = dict(ONE_STEP, max_grad_norm=1e9, learning_rate=0.01)
    alone, _ = updated((learner, rollout), **options)
    costly = rollout._replace(reward=jnp.concatenate([rollout.reward, rollout.reward], axis=-1))
    # A critic of one output learns the reward alone.
    assert equal(updated((learner, costly), **options)[0].policy, alone.policy)
    # Two outputs of the same weights, and a cost that is the reward once more: both learn the same.
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=-1), learner.policy.critic_output)
    policy = eqx.tree_at(lambda policy: policy.critic_output, learner.policy, twice)
    both = learner._replace(policy=policy, optimiser=descend.adam(policy))
    after, _ = updated((both, costly), **options)
    other, _ = updated((both, costly._replace(reward=rollout.reward * jnp.array([1.0, -3.0]))), **options)
    for one in (after, other):
        assert close(one.policy.actor, alone.policy.actor, 1e-6)
    weight = after.policy.critic_output.weight
    np.testing.assert_allclose(weight[:, 0], weight[:, 1], atol=1e-6)
    assert not np.allclose(weight, twice.weight, atol=1e-4)


def test_the_order_of_the_environments_does_not_matter(situation):
    learner, rollout = situation
    order = jnp.array([3, 1, 0, 2, 7, 6, 5, 4])
    turned = jax.tree.map(lambda x: x[:, order], rollout)
    options = dict(ONE_STEP, learning_rate=0.1)
    a, _ = updated(situation, **options)
    b, _ = updated((learner, turned), **options)
    assert close(a.policy, b.policy) and distance(a, learner) > 0.01


# ---- objectives


def test_at_the_first_step_every_objective_has_the_same_gradient(situation):
    first = [updated(situation, **ONE_STEP, objective=o)[0] for o in (Clip(), Unclipped(), PolicyGradient())]
    assert close(first[0].policy, first[1].policy, 1e-6) and close(first[0].policy, first[2].policy, 1e-6)
    # Later they differ: the ratio has left 1, and only one of them stops there.
    later = [updated(situation, objective=o, learning_rate=0.1)[0] for o in (Clip(), Unclipped())]
    assert distance(*later) > 1e-4


def test_the_first_step_by_hand(situation):
    """Eq. 9 once more, with its own few lines, and Adam's first step."""
    learner, rollout = situation = forgetful(situation)
    after, metrics = updated(situation, **ONE_STEP, entropy_coefficient=0.02, learning_rate=1e-3)
    valid = np.asarray(rollout.mask) == 1

    obs = learner.observations(rollout.obs)
    v = np.asarray(learner.policy(obs)[0].value[..., 0], np.float64)
    gamma, lam = 0.99, 0.95
    ended = np.asarray(rollout.terminated | rollout.truncated)
    delta = np.asarray(rollout.reward[..., 0]) + gamma * v[1:] * ~np.asarray(rollout.terminated) - v[:-1]
    advantage, later = np.zeros_like(delta), np.zeros(8)
    for t in reversed(range(12)):
        later = advantage[t] = delta[t] + gamma * lam * later * ~ended[t]
    target = advantage + v[:-1]
    white = (advantage - advantage[valid].mean()) / advantage[valid].std()

    def objective(policy):
        output, _ = policy(obs[:-1])
        log_p = jax.nn.log_softmax(output.distribution.logits[..., 0, :])
        chosen = jnp.take_along_axis(log_p, rollout.action[..., None], -1)[..., 0]
        entropy = -(jnp.exp(log_p) * log_p).sum(-1)
        error = (output.value[..., 0] - target) ** 2
        return jnp.mean((-chosen * white + 0.5 * 0.5 * error - 0.02 * entropy)[valid])

    gradient = jax.jit(jax.grad(objective))(learner.policy)
    norm = optax.global_norm(gradient)
    np.testing.assert_allclose(metrics["train/grad_norm"], norm, rtol=1e-4)
    scaled = jax.tree.map(lambda g: g * jnp.minimum(1.0, 0.5 / norm), gradient)
    # Adam's first step: m / (1 - 0.9) = g; sqrt(v) = sqrt(0.001) |g|, and epsilon is compared with that
    step = jax.tree.map(lambda p, g: p - 1e-3 * g / (jnp.abs(g) + 1e-5 / 0.001**0.5), learner.policy, scaled)
    assert close(after.policy, step, 2e-6)
    assert distance(after, learner) > 5e-3


def test_the_gradient_is_clipped_as_a_whole(situation):
    """By the norm of all of it, so that its direction stays. Adam's memory shows what came through."""

    def first_moment(max_grad_norm):
        after, metrics = updated(forgetful(situation), **ONE_STEP, max_grad_norm=max_grad_norm)
        return adam(after, "mu"), metrics["train/grad_norm"]

    (whole, norm), (small_one, same) = first_moment(1e9), first_moment(0.01)
    assert norm == same > 0.01  # what is logged is the norm before clipping
    # mu = 0.1 g after one step
    np.testing.assert_allclose(optax.global_norm(whole), 0.1 * norm, rtol=1e-4)
    np.testing.assert_allclose(optax.global_norm(small_one), 0.1 * 0.01, rtol=1e-4)
    assert close(jax.tree.map(lambda x: x * 0.01 / norm, whole), small_one, 1e-7)


def test_more_entropy_is_paid_for(situation):
    paid = [updated(situation, entropy_coefficient=c, learning_rate=0.1)[1] for c in (0.0, 1.0)]
    assert paid[1]["train/entropy"] > paid[0]["train/entropy"] + 0.01


@pytest.mark.parametrize("value_loss", [SquaredError(), ClippedSquaredError(), Huber()])
def test_without_its_coefficient_a_separate_critic_stays(situation, value_loss):
    learner, _ = situation = forgetful(situation)
    frozen, _ = updated(situation, value_coefficient=0.0, value_loss=value_loss)
    assert equal(frozen.policy.critic, learner.policy.critic)
    assert not equal(frozen.policy.actor, learner.policy.actor)
    moved, _ = updated(situation, value_coefficient=0.5, value_loss=value_loss)
    assert not equal(moved.policy.critic, learner.policy.critic)


def test_advantages_of_every_epoch_differ_from_the_second_epoch_on(situation):
    # In the first epoch the critic is the one that the advantages of "once" were computed with.
    once, every = (updated(situation, **(ONE_STEP | dict(advantages=a)))[0] for a in ("once", "every-epoch"))
    assert close(once.policy, every.policy, 1e-7)
    once, every = (updated(situation, advantages=a, learning_rate=0.1)[0] for a in ("once", "every-epoch"))
    assert distance(once, every) > 0.01


def test_the_scale_of_rewards_does_not_move_the_actor_where_advantages_are_normalised(situation):
    learner, rollout = situation
    critic = jax.tree.map(jnp.zeros_like, learner.policy.critic_output)  # V = 0, at either scale
    learner = learner._replace(policy=eqx.tree_at(lambda p: p.critic_output, learner.policy, critic))
    louder = rollout._replace(reward=7.0 * rollout.reward)
    for normalisation, same in (("minibatch", True), ("batch", True), ("none", False)):
        options = dict(advantage_normalisation=normalisation, value_coefficient=0.0, **ONE_STEP)
        a, b = (updated((learner, r), max_grad_norm=1e9, **options)[0] for r in (rollout, louder))
        assert close(adam(a, "mu").actor, adam(b, "mu").actor, 1e-6) == same


# ---- schedules and stops


def test_annealing_brings_rate_and_range_to_zero(situation):
    learner, _ = situation
    for remaining in (1.0, 0.25, 0.0):
        after, metrics = updated(situation, remaining, learning_rate=0.01, anneal=True, anneal_clip=True)
        np.testing.assert_allclose(metrics["train/learning_rate"], 0.01 * remaining, rtol=1e-6)
        np.testing.assert_allclose(metrics["train/clip_range"], 0.2 * remaining, rtol=1e-6)
        assert (distance(after, learner) > 0.0) == (remaining > 0.0)
    _, metrics = updated(situation, 0.25, learning_rate=0.01, anneal=False)
    np.testing.assert_allclose(metrics["train/learning_rate"], 0.01, rtol=1e-6)
    np.testing.assert_allclose(metrics["train/clip_range"], 0.2, rtol=1e-6)


def test_a_target_kl_stops_the_update_before_the_step_that_is_too_far(situation):
    learner, _ = situation
    options = dict(learning_rate=0.3)
    free, free_metrics = updated(situation, **options)
    held, metrics = updated(situation, target_kl=0.01, **options)
    assert metrics["train/kl_stopped"] == 1.0 and free_metrics["train/kl_stopped"] == 0.0
    # 3 epochs of 96 / 24 = 4 minibatches, unless one of the first was too far: it was looked at ...
    looked_at = int(metrics["train/updates"])
    assert free_metrics["train/updates"] == 12 and 2 <= looked_at <= 4
    # ... and neither it nor any later one was taken; the optimiser counts the steps.
    assert adam(held, "count") == adam(learner, "count") + looked_at - 1
    assert 0.0 < distance(held, learner) < distance(free, learner)
    # The last one alone is above 1.5 times the target, so the mean over all is above a share of that.
    assert metrics["train/approx_kl"] > 1.5 * 0.01 / looked_at


def test_a_target_that_is_never_passed_changes_nothing(situation):
    free, a = updated(situation)
    held, b = updated(situation, target_kl=1e6)
    assert close(free, held, 1e-6)
    assert a["train/updates"] == b["train/updates"] == 12 and b["train/kl_stopped"] == 0.0


def test_a_changed_number_does_not_compile_again(situation):
    updated(situation)
    before = update._cache_size()
    updated(situation, remaining=0.5, learning_rate=0.1, gamma=0.5, objective=Clip(0.1), max_grad_norm=3.0)
    assert update._cache_size() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_learner_comes_back_with_the_types_it_went_in_with(kind):
    # A weakly typed number in the first learner would make its second turn compile everything once more.
    config = small(walk(kind))
    learner, stream, _ = beginning(config)
    action = learner.policy.head(jnp.zeros((16, 8, learner.policy.head.inputs))).mode()
    number, flag = jnp.zeros((16, 8)), jnp.zeros((16, 8), bool)
    rollout = Experience(
        jnp.zeros((17, 8, 2)), action, number[..., None], flag, flag, flag, number, jnp.zeros((17, 8), bool)
    )
    after, _ = jax.eval_shape(update, learner, rollout, config.update, 1.0)  # traced, not compiled
    stream.envs.close()
    assert jax.tree.leaves(jax.tree.map(type_of, learner)) == jax.tree.leaves(jax.tree.map(type_of, after))


def type_of(x):
    """Shape, dtype and whether it is weak: what decides about compiling again."""
    return f"{x.dtype}{x.shape}{getattr(x, 'weak_type', False)}"


# ---- minibatches


@pytest.mark.parametrize("size", [1, 2, 96, 2048, 2**14, 2**14 + 2])
def test_every_sample_is_in_one_minibatch_of_an_epoch(size):
    order = np.asarray(permutation(jax.random.key(0), size))
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    assert size < 96 or not np.array_equal(order, np.arange(size))
    if size % 2 == 0:
        assert Steps(size // 2).order(jax.random.key(0), size).shape == (2, size // 2)


def test_every_place_of_the_order_is_equally_likely():
    keys = jax.random.split(jax.random.key(1), 6000)
    orders = np.asarray(jax.vmap(lambda key: permutation(key, 3))(keys))
    # 3! = 6 orders, 1000 times each on average; a standard deviation is sqrt(6000 / 6 * 5 / 6) = 29.
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and np.all(np.abs(counts - 1000) < 4 * 29)


def test_the_options_are_all_either_traced_or_static():
    # A field in neither list is lost in a compiled function, and falls back to nothing.
    options = CONFIG.update
    leaves, structure = jax.tree_util.tree_flatten(options)
    rebuilt = jax.tree_util.tree_unflatten(structure, leaves)
    assert {f.name: getattr(rebuilt, f.name) for f in dataclasses.fields(options)} == vars(options)


def test_a_stopped_update_says_nothing_more_about_the_rate(situation):
    # Stopped in the first of 3 epochs, above the KL that the rate should follow: lowered once, not 3 times.
    learner, rollout = situation
    start = learner._replace(learning_rate=jnp.float32(1e-2))
    after, metrics = updated((start, rollout), target_kl=1e-7, learning_rate_kl=1e-9, anneal=False)
    assert metrics["train/kl_stopped"] == 1.0 and metrics["train/updates"] <= 4
    np.testing.assert_allclose(after.learning_rate, 1e-2 / 1.5, rtol=1e-5)
