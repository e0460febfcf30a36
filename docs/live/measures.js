// needs: ppo.js
// How far an update has moved a policy, over all samples of its batch: what the library logs (proximo/learn/loss.py).
//
//   Measures.of(policy, batch, epsilon) -> { ratio: [N x T], approx_kl, kl, clip_fraction, without_gradient, entropy }
//   Measures.explained_variance(prediction, target)     1 is perfect, 0 no better than a constant
"use strict";

const Measures = (function () {
  const { mean } = PPO;
  const k3 = (log_ratio) => Math.expm1(log_ratio) - log_ratio; // estimates KL(old || new), never negative

  function of(policy, { obs, action, distribution, advantage }, epsilon) {
    const now = obs.map((x) => PPO.log_probabilities(policy, x));
    const log_ratio = now.map((log_p, i) => log_p[action[i]] - distribution[i][action[i]]);
    const ratio = log_ratio.map(PPO.ratio_of);
    const whitened = PPO.whiten(advantage);
    return {
      ratio,
      approx_kl: mean(log_ratio.map(k3)),
      kl: mean(now.map((log_p, i) => PPO.categorical_kl(distribution[i], log_p))), // exact
      // Outside of the range, whatever the sign of the advantage; and where the clip leaves no gradient.
      clip_fraction: mean(ratio.map((r) => (Math.abs(r - 1) > epsilon ? 1 : 0))),
      without_gradient: mean(ratio.map((r, i) => ((r - 1) * Math.sign(whitened[i]) > epsilon ? 1 : 0))),
      entropy: mean(now.map(PPO.entropy_of)),
    };
  }

  const variance = (x) => PPO.moments_of(x.map((value) => [value])).m2[0] / x.length;
  const explained_variance = (prediction, target) =>
    1 - variance(target.map((value, i) => value - prediction[i])) / variance(target);

  return { k3, of, explained_variance };
})();
