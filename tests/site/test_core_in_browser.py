"""PPO as the site has it, `docs/live/ppo.js` in Chromium, equals the library, both in 64 bits.

The script has no automatic differentiation: its gradients are written by hand, and JAX's are what they are
compared with. Where one number is compared, it agrees to 1e-10 of itself; entries of a gradient, to 1e-10 of
the largest entry.
"""

from pathlib import Path

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proximo.control.config import preset
from proximo.core import (
    Clip,
    KLPenalty,
    QuadraticPenalty,
    Unclipped,
    categorical_kl,
    clip_fraction,
    explained_variance,
    gae,
    k3,
    merge,
    moments_of,
    normalise,
    whiten,
)
from proximo.core.types import Categories, Experience
from proximo.learn.batches import Batch, Steps
from proximo.learn.descend import Adam, adam, descend
from proximo.learn.loss import loss, prepare_minibatch
from proximo.learn.normalise import observation_normaliser, reward_normaliser
from proximo.learn.options import UpdateOptions
from proximo.learn.update import Learner, update
from proximo.policies import ActorCritic, NetworkOptions
from proximo.policies.distributions.categorical import Categorical

LIVE = Path(__file__).parents[2] / "docs" / "live"
SOURCE = LIVE / "ppo.js"
EXACT = 1e-10
OBJECTIVES = {
    "clip": Clip,
    "unclipped": Unclipped,
    "kl_penalty": KLPenalty,
    "quadratic_penalty": QuadraticPenalty,
}
NUMBER = ("clip", "kl_penalty", "quadratic_penalty")  # those with a number
SAMPLES = 32  # of a minibatch

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=12)

# A policy and Adam's memory of the given numbers: the script's arrays are of a type that JSON does not know.
WITH_NUMBERS = """
    const filled = (tree, numbers) => {
        PPO.leaves(tree).forEach((leaf, k) => leaf.set(numbers[k]));
        return tree;
    };
    const policy_of = (numbers) => filled(PPO.new_policy(PPO.random_numbers(0), [16, 16]), numbers);
    const numbers_of = (tree) => PPO.leaves(tree).map((leaf) => Array.from(leaf));
"""


@pytest.fixture(scope="module", autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page()
    page.add_script_tag(path=SOURCE)
    page.add_script_tag(path=LIVE / "measures.js")
    page.add_script_tag(content=WITH_NUMBERS)
    yield page
    page.close()


def close(found, expected, tolerance=EXACT):
    """Equal up to a share of the largest number; what rounding leaves of a 0 is one."""
    expected = np.asarray(expected, np.float64)
    largest = max(np.abs(expected).max(), 1e-5)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * largest)


def first_policy():
    """As the library begins."""
    return ActorCritic(jax.random.key(0), 4, Categories((2,), scalar=True), NetworkOptions(hidden=(16, 16)))


def new_policy(seed):
    """A policy whose weights are all drawn at random, so that no gradient is 0."""
    policy = first_policy()
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(generator.normal(0, 0.5, x.shape)), policy)


def leaves(policy):
    """Weights and biases, in the order of the script."""
    layers = [*policy.actor.layers, policy.actor_output, *policy.critic.layers, policy.critic_output]
    return [leaf for layer in layers for leaf in (layer.weight, layer.bias)]


def numbers(policy):
    return [np.ravel(leaf).tolist() for leaf in leaves(policy)]


def close_leaves(found, expected, tolerance=EXACT):
    close(np.concatenate(found), np.concatenate([np.ravel(leaf) for leaf in leaves(expected)]), tolerance)


def drawn_batch(policy, seed, spread):
    """A minibatch of the policy that `policy` was before its logits moved by about `spread` nats."""
    generator = np.random.default_rng(seed)
    obs = jnp.asarray(generator.normal(0, 1.5, (SAMPLES, 4)))
    moved = generator.normal(0, spread, (SAMPLES, 1, 2))
    old = Categorical(policy(obs)[0].distribution.logits + moved, (2,), True)
    action = jnp.asarray(generator.integers(0, 2, SAMPLES), jnp.int32)
    value, advantage, target = generator.normal(0, 2, (3, SAMPLES))
    return Batch(
        obs=obs,
        start=None,
        carry=(),
        action=action,
        log_prob=old.log_prob(action),
        distribution=old,
        value=jnp.asarray(value)[:, None],
        advantage=jnp.asarray(advantage),
        target=jnp.asarray(target)[:, None],
        mask=jnp.ones(SAMPLES),
    )


def as_script(batch):
    """The same minibatch as the script has it."""
    return {
        "obs": batch.obs.tolist(),
        "action": batch.action.tolist(),
        "distribution": jax.nn.log_softmax(batch.distribution.logits)[:, 0].tolist(),
        "advantage": batch.advantage.tolist(),
        "target": batch.target[:, 0].tolist(),
    }


def objective_of(kind, number):
    return OBJECTIVES[kind](*([number] if kind in NUMBER else []))


@jax.jit
def loss_and_gradient(policy, batch, objective, options):
    return jax.value_and_grad(
        lambda policy: loss(policy, prepare_minibatch(batch, options)[0], objective, options)[0]
    )(policy)


@few
@given(
    seed=seeds,
    kind=st.sampled_from(sorted(OBJECTIVES)),
    number=st.floats(0.05, 3),
    spread=st.sampled_from([0.0, 0.1, 1.0, 15.0]),  # of the last, some ratios are beyond e^20
    entropy=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_the_loss_and_every_entry_of_its_gradient(page, seed, kind, number, spread, entropy):
    policy = new_policy(seed)
    batch = drawn_batch(policy, seed, spread)
    options = UpdateOptions(entropy_coefficient=entropy)
    expected, gradient = loss_and_gradient(policy, batch, objective_of(kind, number), options)
    found = page.evaluate(
        """([weights, batch, options]) => {
            const found = PPO.loss(policy_of(weights), batch, batch.obs.map((_, i) => i), options);
            return [found.loss, numbers_of(found.gradients)];
        }""",
        [
            numbers(policy),
            as_script(batch),
            dict(
                objective=kind,
                epsilon=number,
                beta=number,
                entropy_coefficient=entropy,
                value_coefficient=0.5,
            ),
        ],
    )
    close(found[0], expected)
    close_leaves(found[1], gradient)


@few
@given(seed=seeds, steps=st.integers(0, 1000), size=st.sampled_from([1e-8, 0.01, 10.0]))
def test_a_step_of_adam_down_a_gradient_whose_norm_is_bounded(page, seed, steps, size):
    policy, gradient = new_policy(seed), new_policy(seed + 1)
    gradient, mu = (jax.tree.map(lambda x: size * x, tree) for tree in (gradient, new_policy(seed + 2)))
    nu = jax.tree.map(jnp.square, mu)
    after, memory, _ = descend(
        policy, Adam(jnp.int32(steps), mu, nu), gradient, 1e-3, max_grad_norm=0.5, epsilon=1e-5
    )
    found = page.evaluate(
        """([weights, mu, nu, count, gradient]) => {
            const policy = policy_of(weights);
            const memory = { count, mu: policy_of(mu), nu: policy_of(nu) };
            PPO.descend(policy, memory, policy_of(gradient), 1e-3, PPO.CARTPOLE);
            return [...[policy, memory.mu, memory.nu].map(numbers_of), memory.count];
        }""",
        [numbers(policy), numbers(mu), numbers(nu), steps, numbers(gradient)],
    )
    for numbers_found, tree in zip(found[:3], (after, memory.mu, memory.nu), strict=True):
        close_leaves(numbers_found, tree)
    assert found[3] == memory.count == steps + 1


def drawn_rows(seed, steps=24, envs=3):
    """Rewards and values of rows of which some are a termination, some a time limit; the last is the cut."""
    generator = np.random.default_rng(seed)
    reward, value, next_value = generator.normal(0, 3, (3, steps, envs))
    end = generator.choice(["none", "terminated", "limit"], (steps, envs), p=[0.8, 0.1, 0.1])
    return reward, value, next_value, end


@few
@given(seed=seeds, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_advantages_with_all_three_ends(page, seed, gamma, lam):
    reward, value, next_value, end = drawn_rows(seed)
    discount, same_episode = gamma * (end != "terminated"), 1.0 * (end == "none")
    rows = [reward, value, next_value, discount, same_episode]
    expected = gae(*map(jnp.asarray, rows), lam)
    found = page.evaluate("(rows) => PPO.gae(...rows)", [*(row.tolist() for row in rows), lam])
    close(found, expected)


def test_what_an_end_means_in_numbers(page):
    """Reward 1, all values 10, gamma 0.5, lambda 1, two steps: -4, and half of it a step earlier.

    A termination has no future: 1 - 10. A time limit has: 1 + 0.5 x 10 - 10, and so has the cut.
    """
    found = page.evaluate(
        """() => [[0.5, 1], [0, 0], [0.5, 0]].map(([discount, same]) =>
            PPO.gae([[1], [1]], [[10], [10]], [[10], [10]], [[discount], [0.5]], [[same], [1]], 1).flat())"""
    )
    assert found == [[-6, -4], [-9, -4], [-4, -4]]


@few
@given(seed=seeds, shift=st.sampled_from([0.0, 1e4]))
def test_moments_and_what_they_normalise(page, seed, shift):
    generator = np.random.default_rng(seed)
    first, second, later = (shift + generator.normal(0, [1, 3, 0.1, 50], (8, 2, 4)) for _ in range(3))
    ones = jnp.ones((8, 2))
    expected = merge(moments_of(jnp.asarray(first), ones), moments_of(jnp.asarray(second), ones))
    found = page.evaluate(
        """([first, second, later]) => {
            const found = PPO.merge(PPO.moments_of(first), PPO.moments_of(second));
            const nothing = PPO.empty_moments(1);
            return [found, later.map((x) => PPO.normalise(x, found)), PPO.normalise([99], nothing)];
        }""",
        [x.reshape(-1, 4).tolist() for x in (first, second, later)],
    )
    assert found[0]["count"] == expected.count == 32
    close(found[0]["mean"], expected.mean)
    np.testing.assert_allclose(found[0]["m2"], expected.m2, rtol=EXACT)
    close(found[1], normalise(jnp.asarray(later.reshape(-1, 4)), expected))
    assert found[2] == [99]  # with nothing seen it is the identity


@few
@given(seed=seeds, size=st.sampled_from([1, 2, 50]), spread=st.sampled_from([0.0, 1e-3, 1.0]))
def test_whitening_and_the_share_of_variance_that_is_explained(page, seed, size, spread):
    x, y = np.random.default_rng(seed).normal(0.7, spread, (2, size))
    found = page.evaluate(
        "([x, y]) => [PPO.whiten(x), Measures.explained_variance(x, y)]", [x.tolist(), y.tolist()]
    )
    close(found[0], whiten(jnp.asarray(x), jnp.ones(size)))
    if size > 1 and spread > 0:
        close(found[1], explained_variance(jnp.asarray(x), jnp.asarray(y), jnp.ones(size)))


@few
@given(seed=seeds, spread=st.floats(0, 2), epsilon=st.floats(0.05, 0.5))
def test_how_far_a_policy_has_moved(page, seed, spread, epsilon):
    """KL by k3 and exact, and both clip fractions: outside of the range, and without a gradient."""
    policy = new_policy(seed)
    batch = drawn_batch(policy, seed, spread)
    now = policy(batch.obs)[0].distribution
    log_ratio = now.log_prob(batch.action) - batch.log_prob
    slope = jax.vmap(jax.grad(Clip(epsilon)))(log_ratio, whiten(batch.advantage, batch.mask))
    found = page.evaluate(
        "([weights, batch, epsilon]) => Measures.of(policy_of(weights), batch, epsilon)",
        [numbers(policy), as_script(batch), epsilon],
    )
    close(found["ratio"], jnp.exp(log_ratio))
    close(found["approx_kl"], jnp.mean(k3(log_ratio)))
    close(found["kl"], jnp.mean(categorical_kl(batch.distribution.logits, now.logits)))
    close(found["entropy"], jnp.mean(now.entropy()))
    assert found["clip_fraction"] == pytest.approx(
        float(jnp.mean(clip_fraction(log_ratio, epsilon, epsilon)))
    )
    assert found["without_gradient"] == pytest.approx(float(jnp.mean(slope == 0)))


@pytest.mark.parametrize("seed", range(3))
def test_cartpole_moves_as_gymnasiums_does(page, seed):
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=seed)
    actions = np.random.default_rng(seed).integers(0, 2, 500).tolist()
    states, ends = [env.state.tolist()], []
    for action in actions:  # on beyond its fall, of which Gymnasium is to know nothing
        env.steps_beyond_terminated = None
        _, _, terminated, _, _ = env.step(action)
        states.append(env.state.tolist())
        ends.append(terminated)
    found = page.evaluate(
        "([states, actions]) => actions.map((action, t) => PPO.cartpole_step(states[t], action))",
        [states, actions],
    )
    assert [row["terminated"] for row in found] == ends and True in ends and False in ends
    np.testing.assert_allclose([row["state"] for row in found], states[1:], rtol=1e-12, atol=1e-12)


def test_cartpole_balances_as_gymnasiums_does(page):
    """500 steps of one episode, each from the state that the last one led to."""
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    first, states, actions = env.state.tolist(), [], []
    for _ in range(500):
        x, x_dot, theta, theta_dot = env.state
        actions.append(int(0.1 * x + 0.3 * x_dot + 8 * theta + 1.5 * theta_dot > 0))
        assert not env.step(actions[-1])[2]
        states.append(env.state.tolist())
    found = page.evaluate(
        "([state, actions]) => actions.map((action) => (state = PPO.cartpole_step(state, action).state))",
        [first, actions],
    )
    np.testing.assert_allclose(found, states, rtol=1e-12, atol=1e-12)


SMALL = dict(num_envs=4, horizon=32, minibatch_size=32, epochs=4, gae_lambda=0.9, learning_rate=1e-2)
COLLECT = "(options) => [PPO.collect(learner, options), numbers_of(learner.policy)]"
UPDATE = """([experience, options, remaining, orders]) => {
    let explained = null;
    for (const { batch } of PPO.update(learner, experience, options, remaining, orders)) {
        explained ??= Measures.explained_variance(batch.value, batch.target);
    }
    return {
        weights: numbers_of(learner.policy),
        mu: numbers_of(learner.optimiser.mu),
        observations: learner.observations,
        rewards: learner.rewards,
        steps: learner.steps,
        explained,
    };
}"""


def as_experience(rows):
    terminated, over = (np.array(rows[name]) for name in ("terminated", "over"))
    return Experience(
        obs=np.array(rows["obs"]),
        action=np.array(rows["action"], np.int32),
        reward=np.array(rows["reward"], np.float64)[..., None],
        terminated=terminated,
        truncated=over & ~terminated,
        over=over,
        mask=np.ones(over.shape),
        start=np.concatenate([np.zeros((1, over.shape[1]), bool), over]),
        final_obs=np.array(rows["final_obs"]),
    )


def with_weights(policy, weights):
    return eqx.tree_at(
        leaves,
        policy,
        [
            np.array(new, np.float64).reshape(old.shape)
            for new, old in zip(weights, leaves(policy), strict=True)
        ],
    )


@pytest.mark.parametrize("objective", ["clip", "kl_penalty"])
def test_whole_updates(page, objective):
    """Three updates, one on top of the other, of rollouts that the script collects; orders are Proximo's."""
    names = ("epochs", "minibatch_size", "gae_lambda", "learning_rate")
    options = UpdateOptions(**{name: SMALL[name] for name in names}, objective=OBJECTIVES[objective]())
    page.evaluate(
        "(options) => { globalThis.learner = PPO.new_learner({ ...PPO.CARTPOLE, ...options }, 7); }", SMALL
    )
    script_options = page.evaluate("() => PPO.CARTPOLE") | SMALL | {"objective": objective}
    learner = None
    for remaining in (1.0, 0.7, 0.4):
        rows, weights = page.evaluate(COLLECT, script_options)
        rows["terminated"][5][0], rows["over"][5][0] = False, True  # a time limit among the ends
        if learner is None:
            policy = with_weights(new_policy(0), weights)
            learner = Learner(
                policy=policy,
                optimiser=adam(policy),
                actor_memory=(),
                objective=jax.tree.map(jnp.float64, options.objective),
                learning_rate=jnp.asarray(options.learning_rate),
                observations=observation_normaliser(jnp.ones(4, bool)),
                rewards=reward_normaliser(SMALL["num_envs"]),
                key=jax.random.key(3),
                steps=jnp.zeros((), jnp.int32),
            )
        _, shuffle_key = jax.random.split(learner.key)
        samples = SMALL["num_envs"] * SMALL["horizon"]
        orders = [
            np.ravel(Steps(SMALL["minibatch_size"]).order(key, samples)).tolist()
            for key in jax.random.split(shuffle_key, options.epochs)
        ]
        learner, metrics = update(learner, as_experience(rows), options, remaining)
        found = page.evaluate(UPDATE, [rows, script_options, remaining, orders])
        close_leaves(found["weights"], learner.policy, 1e-9)
        close_leaves(found["mu"], learner.optimiser.mu, 1e-9)
        for moments, expected in (
            (found["observations"], learner.observations.moments),
            (found["rewards"]["moments"], learner.rewards.moments),
        ):
            assert moments["count"] == expected.count
            close(moments["mean"], np.atleast_1d(expected.mean))
            close(moments["m2"], np.atleast_1d(expected.m2))
        close(found["rewards"]["running"], learner.rewards.running)
        close(found["explained"], metrics["train/explained_variance"])
        assert found["steps"] == learner.steps


def test_its_options_are_those_of_the_preset(page):
    """All but the width of its networks, which a browser trains in seconds."""
    options = page.evaluate("() => PPO.CARTPOLE")
    config = preset("default", "CartPole-v1")
    for name in ("steps", "num_envs", "horizon"):
        assert options.pop(name) == getattr(config, name)
    assert page.evaluate("() => PPO.TIME_LIMIT") == gym.spec("CartPole-v1").max_episode_steps
    assert options.pop("hidden") == [16, 16] and config.network.hidden == (64, 64)
    assert options.pop("objective") == "clip" and config.update.objective == Clip(options.pop("epsilon"))
    assert options.pop("beta") == KLPenalty().beta
    for name, value in options.items():
        assert value == getattr(config.update, name), name


def test_it_is_short_and_has_one_name():
    lines = SOURCE.read_text().splitlines()
    assert len(lines) < 300
    assert [line for line in lines if line.startswith(("const", "let", "var", "function"))] == [
        "const PPO = (function () {"
    ]


def test_networks_begin_as_the_librarys_do(page):
    """Orthogonal rows or columns, whichever are fewer: of length sqrt 2, 0.01 for actions, 1 for values."""
    policy = page.evaluate("() => numbers_of(PPO.new_policy(PPO.random_numbers(3), [16, 16]))")
    for found, expected in zip(policy, leaves(first_policy()), strict=True):
        of_both = [np.reshape(x, expected.shape) for x in (found, expected)]
        if expected.ndim == 1:
            assert not np.any(of_both)
            continue
        few_rows = expected.shape[0] < expected.shape[1]
        squares = [x @ x.T if few_rows else x.T @ x for x in of_both]
        np.testing.assert_allclose(squares[0], squares[1], atol=1e-6)
        assert np.any(of_both[0] < 0) and np.any(of_both[0] > 0)


def test_random_numbers_are_uniform_and_their_own(page):
    drawn = page.evaluate(
        "() => [1, 1, 2].map((seed) => Array.from({ length: 4000 }, PPO.random_numbers(seed)))"
    )
    assert drawn[0] == drawn[1] != drawn[2]
    counts, _ = np.histogram(drawn[0], 10, (0, 1))
    assert counts.sum() == 4000 and np.all(np.abs(counts - 400) < 80)


def test_a_rollout_is_what_happened(page):
    """Rows follow each other as the cart moves; episodes begin near the middle and end for a reason."""
    rows, p_right, returns = page.evaluate(
        """() => {
            const options = { ...PPO.CARTPOLE, horizon: 600 };
            const learner = PPO.new_learner(options, 5);
            learner.policy.actor[2].weight.fill(0);
            learner.policy.actor[2].bias[1] = 0.2; // a coin that prefers the right
            learner.envs[0].age = 499; // in its last step
            const rows = PPO.collect(learner, options);
            return [rows, Math.exp(PPO.log_probabilities(learner.policy, [0, 0, 0, 0])[1]), learner.returns];
        }"""
    )
    obs, action, final_obs = (np.array(rows[name]) for name in ("obs", "action", "final_obs"))
    over, terminated = np.array(rows["over"]), np.array(rows["terminated"])
    assert obs.shape == (601, 8, 4) and action.shape == (600, 8) and np.all(np.array(rows["reward"]) == 1)
    np.testing.assert_array_equal(obs[1:][~over], final_obs[~over])
    first = np.concatenate([obs[0], obs[1:][over]])
    assert np.all(np.abs(first) <= 0.05) and np.abs(first.mean()) < 0.01 and first.std() > 0.02
    assert over[0, 0] and not terminated[0, 0] and returns[0] == 500  # the time limit
    assert np.all(over[terminated]) and np.sum(over & ~terminated) == 1
    _, env = np.nonzero(over)
    assert len(returns) == len(env) and sum(returns) - 499 == 600 * 8 - sum(
        600 - 1 - np.flatnonzero(over[:, n])[-1] for n in range(8)
    )
    assert action.mean() == pytest.approx(p_right, abs=0.03) and p_right == pytest.approx(0.55, abs=0.01)
    moved = page.evaluate(
        "([obs, action]) => obs.map((state, i) => PPO.cartpole_step(state, action[i]).state)",
        [obs[:-1].reshape(-1, 4).tolist(), action.ravel().tolist()],
    )
    np.testing.assert_array_equal(moved, final_obs.reshape(-1, 4))


SOLVE = """([source, seeds]) => {
    // As the page does it from file://: a worker of a Blob URL. All seeds at once.
    const code = `${source}; onmessage = ({ data }) => {
        const learner = PPO.train(PPO.CARTPOLE, data, 475);
        postMessage([learner.steps, learner.returns.slice(-100)]);
    };`;
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    return Promise.all(seeds.map((seed) => new Promise((resolve, reject) => {
        const worker = new Worker(url);
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (error) => reject(error.message);
        worker.postMessage(seed);
    })));
}"""


def test_it_solves_cartpole_on_five_of_five_seeds(page):
    for steps, returns in page.evaluate(SOLVE, [SOURCE.read_text(), [0, 1, 2, 3, 4]]):
        assert steps <= 60_000
        assert np.mean(returns) >= 475
