"""An update replayed epoch by epoch: the weights of `update`, and numbers that can be checked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import small, turns, walk

from proximo import with_options
from proximo.core import AdaptiveKLPenalty, Unclipped
from proximo.learn.actor_steps import NaturalGradient
from proximo.learn.microscope import replay
from proximo.learn.update import update
from proximo.policies.memory import Lstm

CONFIG = small(walk("Discrete"), num_envs=8, horizon=16, minibatch_size=32, epochs=3, hidden=(8,))
VARIANTS = {
    "plain": {},
    "advantages computed once": dict(advantages="once"),
    "whitened over the batch, a bound on the KL": dict(advantage_normalisation="batch", target_kl=1e-5),
    "a KL penalty that adapts": dict(objective=AdaptiveKLPenalty(), learning_rate_kl=0.01),
    "an actor's step of its own": dict(actor_step=NaturalGradient()),
    "a memory": dict(network=Lstm()),
    "numbers as actions": dict(env=walk("Box")),
}


def moment(options):
    """A learner after one update, and its next rollout."""
    config = with_options(CONFIG, **options)
    learner, rollout, _, _, _ = list(turns(config, 2))[1]
    return config.update, learner, jax.tree.map(jnp.asarray, rollout)


def both(options):
    """What `update` makes of a learner and a rollout, and the epochs of the same."""
    options, learner, rollout = moment(options)
    return update(learner, rollout, options, 0.7), list(replay(learner, rollout, options, 0.7))


@pytest.fixture(scope="module")
def plain():
    return both({})


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_the_replay_ends_with_the_weights_of_the_update_bit_for_bit(options):
    (after, _), epochs = both(options)
    for ours, theirs in zip(*map(jax.tree.leaves, (epochs[-1].policy, after.policy)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_steps_of_all_epochs_are_those_that_the_update_logs(plain):
    (_, metrics), epochs = plain
    for logged, name in (("train/approx_kl", "train/approx_kl"), ("train/grad_norm", "grad_norm")):
        steps = np.concatenate([epoch.steps[name] for epoch in epochs[1:]])
        np.testing.assert_allclose(steps.mean(), metrics[logged], rtol=1e-5)


def test_before_the_first_epoch_nothing_has_moved(plain):
    _, (before, *_) = plain
    samples = before.samples
    np.testing.assert_allclose(samples.log_ratio[samples.counts], 0.0, atol=1e-6)
    assert all(abs(float(before.means[name])) < 1e-6 for name in ("kl", "k1", "k2", "k3", "outside"))
    assert float(before.means["no_slope"]) == 0.0
    assert not before.steps


def test_the_means_are_those_of_the_samples(plain):
    """With x = log r:  k1 = -x,  k2 = x^2 / 2,  k3 = e^x - 1 - x;  outside: |r - 1| > 0.2."""
    _, epochs = plain
    last = epochs[-1]
    x = np.asarray(last.samples.log_ratio)[np.asarray(last.samples.counts)].astype(np.float64)
    by_hand = {
        "k1": -x,
        "k2": x**2 / 2,
        "k3": np.exp(x) - 1 - x,
        "outside": np.abs(np.exp(x) - 1) > 0.2,
        "kl": np.asarray(last.samples.kl)[np.asarray(last.samples.counts)],
    }
    for name, values in by_hand.items():
        np.testing.assert_allclose(last.means[name], values.mean(), rtol=1e-4, atol=1e-7)


def test_the_clip_is_flat_where_the_advantage_would_carry_the_ratio_further():
    """r above 1.2 with A > 0, r below 0.8 with A < 0 (eq. 7): there and nowhere else."""
    _, epochs = both(dict(learning_rate=0.05, max_grad_norm=10.0))
    samples = jax.tree.map(np.asarray, epochs[-1].samples)
    ratio, advantage = np.exp(samples.log_ratio), samples.advantage
    flat = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    assert flat[samples.counts].any() and not flat[samples.counts].all()
    np.testing.assert_array_equal(~samples.moving[samples.counts], flat[samples.counts])
    assert epochs[-1].means["surrogate"] < epochs[-1].means["unclipped"]


def test_without_a_clip_every_sample_pushes_on():
    _, epochs = both(dict(objective=Unclipped(), learning_rate=0.05))
    assert float(epochs[-1].means["no_slope"]) == 0.0
    np.testing.assert_allclose(epochs[-1].means["surrogate"], epochs[-1].means["unclipped"], rtol=1e-6)


def test_a_minibatch_that_is_the_whole_batch_has_the_cosine_1():
    _, epochs = both(dict(minibatch_size=128))
    np.testing.assert_allclose([epoch.steps["cosine"] for epoch in epochs[1:]], 1.0, atol=1e-5)


def test_the_cosine_of_two_minibatches_is_below_1_and_on_the_whole_above_0(plain):
    """Their sum is the whole batch's gradient, so the inner products with it add up to its square."""
    _, epochs = plain
    cosines = np.stack([epoch.steps["cosine"] for epoch in epochs[1:]])
    assert cosines.shape == (3, 4)
    assert (cosines < 1.0).all() and (cosines.max(axis=1) > 0).all()
