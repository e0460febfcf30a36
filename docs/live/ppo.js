// PPO (Schulman et al. 2017, arXiv 1707.06347) with its networks, gradients and CartPole, without a library.
// Read it from the end: `train` is algorithm 1, `update` one of its iterations. It does what Proximo does
// (proximo/core, proximo/learn), under the same names; tests hold the two equal to ten digits. Arrays are
// plain: [t][n] is step t of environment n, which is sample t * N + n of a batch.
"use strict";
const PPO = (function () {
  const CARTPOLE = { // Proximo's recipe for CartPole-v1, with networks of 16 x 16 instead of 64 x 64
    num_envs: 8, horizon: 128, // N environments, T steps of each: a rollout of N x T samples
    epochs: 10, minibatch_size: 128, // K passes over each rollout, M samples in one gradient step
    learning_rate: 1e-3, steps: 200_000, // over these it falls to 0
    adam_epsilon: 1e-5, max_grad_norm: 0.5, // of all gradients together
    gamma: 0.99, gae_lambda: 0.9, // discount per step; 0 trusts the critic, 1 the rewards
    objective: "clip", epsilon: 0.2, beta: 1, // or unclipped, kl_penalty, quadratic_penalty (SPO)
    value_coefficient: 0.5, entropy_coefficient: 0, hidden: [16, 16], // c1 and c2 of eq. 9; widths of layers
  };

  // ==== CartPole, as in Gymnasium: [position, velocity, angle, angular velocity], 0.02 s later, after a push
  // of 10 N to the left (0) or right (1). It is over when the cart or the pole is too far out, or at the limit.
  const [TIME_LIMIT, FALLEN] = [500, (12 * 2 * Math.PI) / 360];
  const cartpole_reset = (random) => Array.from({ length: 4 }, () => 0.1 * random() - 0.05);
  function cartpole_step([x, x_dot, theta, theta_dot], action) {
    const [gravity, total_mass, masspole, length, tau] = [9.8, 1.1, 0.1, 0.5, 0.02];
    const [cos, sin] = [Math.cos(theta), Math.sin(theta)];
    const push = ((action === 1 ? 10 : -10) + masspole * length * theta_dot ** 2 * sin) / total_mass;
    const turn = (gravity * sin - cos * push) / (length * (4 / 3 - (masspole * cos ** 2) / total_mass));
    const pull = push - (masspole * length * turn * cos) / total_mass;
    const state = [x + tau * x_dot, x_dot + tau * pull, theta + tau * theta_dot, theta_dot + tau * turn];
    return { state, terminated: Math.abs(state[0]) > 2.4 || Math.abs(state[2]) > FALLEN };
  }

  function random_numbers(seed) { // Mulberry32: uniform in [0, 1), the same for the same seed
    return function () {
      seed = (seed + 0x6d2b79f5) | 0;
      let bits = Math.imul(seed ^ (seed >>> 15), seed | 1);
      bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
      return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const permutation = (random, size) =>
    Array.from({ length: size }, (_, i) => [random(), i]).sort((a, b) => a[0] - b[0]).map(([, i]) => i);

  // ==== Networks: lists of layers x W + b, with tanh between them. `weight` is [inputs][outputs], row by row.
  const mean = (x) => x.reduce((sum, value) => sum + value, 0) / x.length;
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  function dense(random, inputs, outputs, gain) { // orthogonal (Huang 2022, detail 2)
    const vectors = []; // rows or columns, whichever are fewer: at right angles, of length 1
    while (vectors.length < Math.min(inputs, outputs)) {
      const drawn = Array.from({ length: Math.max(inputs, outputs) }, () => normal(random));
      const without = (v, u, along) => v.map((x, i) => x - along * u[i]);
      const vector = vectors.reduce((v, u) => without(v, u, dot(v, u)), drawn);
      vectors.push(vector.map((x) => x / Math.sqrt(dot(vector, vector))));
    }
    const at = (i, j) => gain * (inputs < outputs ? vectors[i][j] : vectors[j][i]);
    const weight = new Float64Array(inputs * outputs).map((_, k) => at(Math.floor(k / outputs), k % outputs));
    return { weight, bias: new Float64Array(outputs) };
  }

  // Actor and critic share nothing. The actor's last layer is small: it begins without a preference.
  const mlp = (random, sizes, last_gain) => sizes.slice(1).map((outputs, i) =>
    dense(random, sizes[i], outputs, i === sizes.length - 2 ? last_gain : Math.SQRT2));
  const new_policy = (random, hidden) =>
    ({ actor: mlp(random, [4, ...hidden, 2], 0.01), critic: mlp(random, [4, ...hidden, 1], 1) });
  const zeros_like = (layers) => layers.map(({ weight, bias }) =>
    ({ weight: new Float64Array(weight.length), bias: new Float64Array(bias.length) }));
  const no_gradients = (policy) => ({ actor: zeros_like(policy.actor), critic: zeros_like(policy.critic) });
  const leaves = (policy) => [...policy.actor, ...policy.critic].flatMap(({ weight, bias }) => [weight, bias]);

  function forward(layers, input) { // what every layer computes, after the input itself: backward needs all
    const outputs = [input];
    for (let index = 0; index < layers.length; index++) {
      const [x, y, { weight, bias }] = [outputs[index], [], layers[index]];
      for (let j = 0; j < bias.length; j++) {
        let sum = bias[j];
        for (let i = 0; i < x.length; i++) sum += x[i] * weight[i * bias.length + j];
        y.push(index < layers.length - 1 ? Math.tanh(sum) : sum);
      }
      outputs.push(y);
    }
    return outputs;
  }

  // The chain rule, from the last layer to the first: adds to `gradients` what the loss changes by with each
  // weight. `error` is what it changes by with each output.
  function backward(layers, outputs, error, gradients) {
    for (let index = layers.length - 1; index >= 0; index--) {
      const [x, { weight }, gradient, earlier] = [outputs[index], layers[index], gradients[index], []];
      for (let j = 0; j < error.length; j++) gradient.bias[j] += error[j];
      for (let i = 0, k = 0; i < x.length; i++) {
        let sum = 0;
        for (let j = 0; j < error.length; j++, k++) {
          gradient.weight[k] += x[i] * error[j];
          sum += weight[k] * error[j];
        }
        earlier.push(sum * (1 - x[i] * x[i])); // the slope of tanh, of which x is the value
      }
      error = earlier;
    }
  }

  function log_softmax(logits) {
    const largest = Math.max(...logits);
    const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    return logits.map((logit) => logit - largest - total);
  }
  const log_probabilities = (policy, obs) => log_softmax(forward(policy.actor, obs).at(-1));
  const value_of = (policy, obs) => forward(policy.critic, obs).at(-1)[0];

  // ==== Objectives, to MAXIMISE, of one sample with ratio r and advantage A: value, slopes by r and by the KL
  const surrogates = {
    clip({ epsilon }, r, A) { // eq. 7
      const near = Math.min(Math.max(r, 1 - epsilon), 1 + epsilon);
      return near * A < r * A ? { value: near * A, by_ratio: 0 } : { value: r * A, by_ratio: A };
    },
    unclipped: (_, r, A) => ({ value: r * A, by_ratio: A }), // eq. 6
    kl_penalty: ({ beta }, r, A, kl) => ({ value: r * A - beta * kl, by_ratio: A, by_kl: -beta }), // eq. 8
    quadratic_penalty({ epsilon }, r, A) { // SPO (arXiv 2401.16025): turns back beyond 1 + sign(A) epsilon
      const value = r * A - (Math.abs(A) * (r - 1) ** 2) / (2 * epsilon);
      return { value, by_ratio: A - (Math.abs(A) * (r - 1)) / epsilon };
    },
  };
  const LIMIT = 20; // beyond e^20 a ratio says only "far"
  const ratio_of = (log_ratio) => Math.exp(Math.min(Math.max(log_ratio, -LIMIT), LIMIT));
  const categorical_kl = (log_p, log_q) => log_p.reduce((kl, x, a) => kl + Math.exp(x) * (x - log_q[a]), 0);
  const entropy_of = (log_p) => -log_p.reduce((sum, x) => sum + Math.exp(x) * x, 0);

  // Eq. 9 with its sign inverted: the mean, over the samples `rows`, of  c1 (V - V_targ)^2 / 2 - L - c2 S,
  // and what it changes by with every weight. `distribution` holds the log probabilities before the update.
  function loss(policy, batch, rows, options) {
    const whitened = whiten(rows.map((row) => batch.advantage[row]));
    let [total, gradients] = [0, no_gradients(policy)];
    for (const [i, row] of rows.entries()) {
      const [actor, critic] = [policy.actor, policy.critic].map((layers) => forward(layers, batch.obs[row]));
      const [log_p, old, action] = [log_softmax(actor.at(-1)), batch.distribution[row], batch.action[row]];
      const [log_ratio, kl, entropy] = [log_p[action] - old[action], categorical_kl(old, log_p), entropy_of(log_p)];
      const r = ratio_of(log_ratio);
      const { value, by_ratio, by_kl = 0 } = surrogates[options.objective](options, r, whitened[i], kl);
      const by_log_prob = Math.abs(log_ratio) < LIMIT ? by_ratio * r : 0;
      const by_logit = log_p.map((x, a) => {
        const [p, chosen] = [Math.exp(x), a === action ? 1 : 0];
        const by_entropy = -options.entropy_coefficient * p * (x + entropy);
        return -(by_log_prob * (chosen - p) + by_kl * (p - Math.exp(old[a])) + by_entropy) / rows.length;
      });
      const error = critic.at(-1)[0] - batch.target[row];
      backward(policy.actor, actor, by_logit, gradients.actor);
      backward(policy.critic, critic, [(options.value_coefficient * error) / rows.length], gradients.critic);
      total += options.value_coefficient * 0.5 * error ** 2 - value - options.entropy_coefficient * entropy;
    }
    return { loss: total / rows.length, gradients };
  }

  // One step of Adam (Kingma and Ba 2015, end of section 2) down a gradient whose norm is bounded first.
  const adam = (policy) => ({ count: 0, mu: no_gradients(policy), nu: no_gradients(policy) });
  function descend(policy, memory, gradients, learning_rate, options) {
    const [mu, nu, gradient] = [memory.mu, memory.nu, gradients].map(leaves);
    const norm = Math.sqrt(gradient.reduce((sum, leaf) => sum + dot(leaf, leaf), 0));
    if (!Number.isFinite(norm)) return; // moves nothing
    const [factor, count] = [Math.min(1, options.max_grad_norm / norm), ++memory.count];
    const rate = (learning_rate * Math.sqrt(1 - 0.999 ** count)) / (1 - 0.9 ** count);
    for (const [k, weight] of leaves(policy).entries()) {
      for (let i = 0; i < weight.length; i++) {
        const g = gradient[k][i] * factor;
        mu[k][i] += 0.1 * (g - mu[k][i]);
        nu[k][i] += 0.001 * (g * g - nu[k][i]);
        weight[i] -= (rate * mu[k][i]) / (Math.sqrt(nu[k][i]) + options.adam_epsilon);
      }
    }
  }

  // ==== Advantages (eq. 11 and 12):  A_t = r_t + gamma V(s_{t+1}) - V(s_t) + gamma lambda A_{t+1}
  // What an end means is data. A termination has discount 0: there is no future to count. At a time limit the
  // discount stays, and same_episode is 0. Behind the last row of a rollout there is no A_{t+1} yet.
  function gae(reward, value, next_value, discount, same_episode, lam) {
    const advantage = [];
    for (let t = reward.length - 1; t >= 0; t--) {
      advantage[t] = reward[t].map((r, n) => {
        const later = t + 1 < reward.length && same_episode[t][n] ? advantage[t + 1][n] : 0;
        const delta = r + discount[t][n] * next_value[t][n] - value[t][n];
        return delta + discount[t][n] * lam * later;
      });
    }
    return advantage;
  }

  function whiten(x) { // to mean 0 and standard deviation 1
    const { mean: [mean], m2: [m2] } = moments_of(x.map((value) => [value]));
    const spread = Math.sqrt(m2 / x.length) > 1e-6 * Math.abs(mean) ? Math.sqrt(m2 / x.length) : 1;
    return x.length < 2 ? x : x.map((value) => (value - mean) / spread);
  }

  // ==== Running mean and spread of observations and returns
  const empty_moments = (size) => ({ count: 0, mean: Array(size).fill(0), m2: Array(size).fill(0) });
  function moments_of(rows) { // in two passes: sums of squares would lose digits
    const mean = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
    const m2 = mean.map((mean, i) => rows.reduce((sum, row) => sum + (row[i] - mean) ** 2, 0));
    return { count: rows.length, mean, m2 };
  }

  function merge(a, b) { // Chan, Golub and LeVeque 1979
    const [count, share] = [a.count + b.count, b.count / (a.count + b.count)];
    const apart = b.mean.map((mean, i) => mean - a.mean[i]);
    const mean = a.mean.map((mean, i) => mean + apart[i] * share);
    return { count, mean, m2: a.m2.map((m2, i) => m2 + b.m2[i] + apart[i] ** 2 * a.count * share) };
  }
  const within_10 = (x) => Math.min(Math.max(x, -10), 10);
  const normalise = (x, { count, mean, m2 }) => (count === 0 ? x :
    x.map((value, i) => within_10((value - mean[i]) / Math.sqrt(m2[i] / count + 1e-8))));

  // Rewards in units of the standard deviation of the discounted return; their mean is not touched.
  function scaled_rewards(rewards, { reward, over }, gamma) {
    const returns = reward.flatMap((row, t) => row.map((reward, n) => {
      const total = rewards.running[n] * gamma + reward;
      rewards.running[n] = over[t][n] ? 0 : total;
      return [total];
    }));
    const { count, m2 } = (rewards.moments = merge(rewards.moments, moments_of(returns)));
    const spread = m2[0] > 0 ? Math.sqrt(m2[0] / count) : 1;
    return reward.map((row) => row.map((reward) => within_10(reward / (spread + 1e-8))));
  }

  // ==== One iteration: collect a rollout, learn from it
  function new_learner(options, seed) { // everything that learning changes
    const random = random_numbers(seed);
    const policy = new_policy(random, options.hidden);
    const envs = Array.from({ length: options.num_envs }, () => ({ state: cartpole_reset(random), age: 0 }));
    const rewards = { moments: empty_moments(1), running: envs.map(() => 0) };
    return { policy, optimiser: adam(policy), observations: empty_moments(4), rewards, random, envs,
      steps: 0, returns: [] }; // steps learned from, and the returns of the episodes so far
  }

  // T steps of N carts with the policy as it is. `final_obs` is what each step led to, also where an episode
  // is over and the next row begins another one; `obs` has one row more than the rest, behind the last step.
  function collect({ policy, observations, random, envs, returns }, { horizon }) {
    const experience = { obs: [], action: [], reward: [], terminated: [], over: [], final_obs: [] };
    for (let t = 0; t < horizon; t++) {
      const rows = envs.map((env) => {
        const [obs, age] = [env.state, env.age + 1];
        const p_right = Math.exp(log_probabilities(policy, normalise(obs, observations))[1]);
        const action = random() < p_right ? 1 : 0;
        const { state, terminated } = cartpole_step(obs, action);
        const over = terminated || age === TIME_LIMIT;
        if (over) returns.push(age); // a reward of 1 for every step
        Object.assign(env, over ? { state: cartpole_reset(random), age: 0 } : { state, age });
        return { obs, action, reward: 1, terminated, over, final_obs: state };
      });
      for (const name in experience) experience[name].push(rows.map((row) => row[name]));
    }
    experience.obs.push(envs.map((env) => env.state));
    return experience;
  }

  // Advantages, and targets of the critic, as the critic sees things now.
  function advantages(policy, { obs, reward, terminated, over, final_obs }, { gamma, gae_lambda }) {
    const value = obs.map((row) => row.map((x) => value_of(policy, x)));
    const each = (f) => over.map((row, t) => row.map((_, n) => f(t, n)));
    const next_value = each((t, n) => (over[t][n] ? value_of(policy, final_obs[t][n]) : value[t + 1][n]));
    const discount = each((t, n) => (terminated[t][n] ? 0 : gamma));
    const advantage = gae(reward, value, next_value, discount, each((t, n) => !over[t][n]), gae_lambda);
    const target = each((t, n) => advantage[t][n] + value[t][n]);
    return { advantage: advantage.flat(), target: target.flat(), value: value.slice(0, -1).flat() };
  }

  // K epochs of minibatch steps on N x T samples. A generator, which stops after each epoch for those who watch:
  // options are read at every minibatch, so they may change meanwhile. `remaining` is the share of training
  // still to come; `orders` gives the order of the samples in each epoch, if it is not to be a random one.
  function* update(learner, experience, options, remaining, orders) {
    const { policy, optimiser, observations, rewards, random } = learner;
    const [obs, final_obs] = [experience.obs, experience.final_obs].map((rows) =>
      rows.map((row) => row.map((x) => normalise(x, observations))));
    const seen = { ...experience, obs, final_obs, reward: scaled_rewards(rewards, experience, options.gamma) };
    const batch = { obs: obs.slice(0, -1).flat(), action: experience.action.flat() };
    batch.distribution = batch.obs.map((x) => log_probabilities(policy, x));
    for (let epoch = 0; epoch < options.epochs; epoch++) {
      Object.assign(batch, advantages(policy, seen, options)); // in every epoch: the critic learns meanwhile
      const order = orders ? orders[epoch] : permutation(random, batch.obs.length);
      for (let first = 0; first < order.length; first += options.minibatch_size) {
        const { gradients } = loss(policy, batch, order.slice(first, first + options.minibatch_size), options);
        descend(policy, optimiser, gradients, options.learning_rate * remaining, options);
      }
      yield { epoch: epoch + 1, batch };
    }
    learner.observations = merge(observations, moments_of(experience.obs.slice(0, -1).flat()));
    learner.steps += batch.obs.length;
  }

  // Algorithm 1: until the mean of the last 100 episodes reaches `until`, or the steps are used up.
  function train(options, seed, until = Infinity) {
    const learner = new_learner(options, seed);
    while (learner.steps < options.steps && !(mean(learner.returns.slice(-100)) >= until)) {
      for (const _ of update(learner, collect(learner, options), options, 1 - learner.steps / options.steps));
    }
    return learner;
  }

  return { CARTPOLE, TIME_LIMIT, FALLEN, cartpole_step, cartpole_reset, random_numbers, new_policy, leaves, forward,
    log_probabilities, value_of, surrogates, ratio_of, categorical_kl, entropy_of, loss, adam, descend, gae, whiten,
    empty_moments, moments_of, merge, normalise, new_learner, collect, update, train, mean };
})();
