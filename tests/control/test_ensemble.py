"""Members of an ensemble are the runs that they would have been alone."""

import jax
import numpy as np
import pytest
from probes import Aim, BetterAction, Endless, close, equal, small, walk

from proximo import UserError, with_options
from proximo.control.ensemble import ensemble, ensemble_key, stack, unstack
from proximo.control.train import training
from proximo.core import AdaptiveKLPenalty, Clip, KLPenalty, Unclipped
from proximo.learn.actor_steps import AdaptiveGradient, CrossEntropy, TrustRegion

TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=2, steps=64, hidden=(4,))


def runs(configs):
    """Each member's iterations, as a list per member."""
    turns = list(ensemble(configs))
    return [[turn[index] for turn in turns if turn[index]] for index in range(len(configs))]


def assert_same(mine, alone):
    assert [i.steps for i in mine] == [i.steps for i in alone]
    for one, other in zip(mine, alone, strict=True):
        assert one.number == other.number
        assert close(one.learner, other.learner, 1e-4)
        assert [e.env for e in one.episodes] == [e.env for e in other.episodes]
        np.testing.assert_allclose(
            [e.episode_return for e in one.episodes], [e.episode_return for e in other.episodes], rtol=1e-4
        )
        np.testing.assert_allclose([one.mean_return], [other.mean_return], rtol=1e-4)
        assert one.metrics == pytest.approx(other.metrics, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Box", dict(objective=Clip(0.1))),
        ("Discrete", dict(objective=AdaptiveKLPenalty(0.01))),
        ("Box", dict(actor_step=TrustRegion(), normalise_rewards=True, normalise_observations=True)),
        ("Box", dict(actor_step=AdaptiveGradient(), initial_log_std=-0.5, final_log_std=-1.0)),
    ],
    ids=["clip", "adaptive", "trust-region", "scheduled"],
)
def test_each_member_is_the_run_it_would_have_been_alone(kind, options):
    env = walk(kind)
    configs = [small(env, seed=seed, **{**TINY, **options}) for seed in (3, 5, 8)]
    configs[2] = with_options(configs[2], learning_rate=0.003, gamma=0.9)
    for config, mine in zip(configs, runs(configs), strict=True):
        assert_same(mine, list(training(config)))


@pytest.mark.parametrize("mode", ["sync", "parallel"])
def test_a_member_goes_on_alone_from_its_snapshot(mode):
    options = dict(TINY, steps=128, normalise_rewards=True, vectorization_mode=mode)
    configs = [small("CartPole-v1", seed=seed, **options) for seed in (3, 5, 8)]
    turns = ensemble(configs)
    snapshots = [[member.snapshot() for member in next(turns)] for _ in range(3)][-1]
    turns.close()
    for config, snapshot in list(zip(configs, snapshots, strict=True))[1:]:
        assert_same(list(training(config, snapshot)), list(training(config))[3:])


def test_members_differ_in_the_objectives_numbers():
    configs = [small(Aim, objective=KLPenalty(beta), **TINY) for beta in (0.3, 10.0)]
    first, second = (member[-1].learner for member in runs(configs))
    assert not close(first.policy, second.policy)
    assert close(first.policy, list(training(configs[0]))[-1].learner.policy, 1e-4)


def test_each_member_ends_at_its_own_time():
    # Seams are no steps: how many turns 64 steps take depends on how often a member's episodes end.
    env = walk("Box")
    configs = [small(env, seed=seed, **TINY) for seed in range(6)]
    turns = list(ensemble(configs))
    counts = [sum(turn[index] is not None for turn in turns) for index in range(6)]
    assert counts == [len(list(training(config))) for config in configs]
    for index, count in enumerate(counts):
        assert all(turn[index] is not None for turn in turns[:count])
        assert all(turn[index] is None for turn in turns[count:])


def test_until_ends_a_member_alone():
    config = small(BetterAction, **{**TINY, "steps": 6000, "until": 0.9})
    members = runs([config, with_options(config, seed=1)])
    for seed, mine in enumerate(members):
        assert mine[-1].mean_return >= 0.9 and mine[-1].steps < 6000
        assert len(mine) == len(list(training(with_options(config, seed=seed))))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_member_that_diverges_leaves_the_others_alone():
    good = small(Aim, seed=1, **TINY)
    bad = with_options(good, seed=2, learning_rate=1e38)
    first, second = runs([good, bad])
    assert_same(first, list(training(good)))
    assert len(second) == 1 and not all(np.isfinite(value) for value in second[0].metrics.values())
    # The policy of its last iteration is the one from before, and can still act.
    assert np.isfinite(second[0].agent.act(np.zeros(1, np.float32))).all()
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(second[0].learner.policy))


def test_who_has_the_same_key():
    config = small(Aim, **TINY)
    for like in (dict(seed=9), dict(learning_rate=1.0, gamma=0.5), dict(objective=Clip(0.1))):
        assert ensemble_key(config) == ensemble_key(with_options(config, **like))
    for unlike in (
        dict(objective=Unclipped()),
        dict(epochs=7),
        dict(num_envs=4),
        dict(hidden=(5,)),
        dict(steps=128),
        dict(target_kl=0.1),
        dict(env=Endless),
        dict(actor_step=TrustRegion()),
    ):
        assert ensemble_key(config) != ensemble_key(with_options(config, **unlike))
    # A population is an ensemble already.
    alone = with_options(config, actor_step=CrossEntropy(elite=1))
    assert ensemble_key(alone) == ensemble_key(alone) != ensemble_key(with_options(alone, seed=9))


def test_strangers_and_lone_instances_are_refused():
    config = small(Aim, **TINY)
    with pytest.raises(UserError, match="only in the seed and in the algorithm's numbers"):
        next(ensemble([config, with_options(config, epochs=1)]))
    only_one = with_options(config, env=Aim(), num_envs=1)
    with pytest.raises(UserError, match="environments of their own"):
        next(ensemble([only_one, with_options(only_one, seed=1)]))


def test_an_ensemble_of_one_is_the_run_itself():
    config = small(Aim, **TINY)
    (mine,) = runs([config])
    assert equal(mine[-1].learner, list(training(config))[-1].learner)


def test_what_a_broken_loop_leaves_behind():
    closed = []

    class Closing(Aim):
        def close(self):
            closed.append(True)

    config = small(Closing, **TINY)
    turns = ensemble([config, with_options(config, seed=1)])
    next(turns)
    turns.close()
    assert len(closed) == 4


def test_trees_stacked_and_unstacked():
    trees = [{"a": np.arange(3) + index, "b": (float(index),)} for index in range(4)]
    stacked = stack(trees)
    assert stacked["a"].shape == (4, 3) and stacked["b"][0].shape == (4,)
    for tree, back in zip(trees, unstack(stacked), strict=True):
        assert equal(jax.tree.map(np.float32, tree), jax.tree.map(np.float32, back))
