"""What one sample pushes in a policy of three actions, and how many samples the direction needs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from proximo.core import PolicyGradient
from proximo.experiments.figures.rounded import rounded
from proximo.policies import Categorical

LOGITS = jnp.array([0.8, 0.0, -0.8])
REWARDS = jnp.array([10.5, 10.0, 11.0])  # all positive, and the rarest action is the best
ADVANTAGES = (-2.0, -1.0, 1.0, 2.0)
COUNTS = (1, 3, 10, 30, 100, 300, 1000)
DRAWS, SEED = 400, 0


def push(logits: Float[Array, "3"], action: Any, weight: Any) -> Float[Array, "3"]:
    """The gradient in the logits of what the policy gradient makes of one sample (Schulman 2017, eq. 1)."""

    def objective(logits: Float[Array, "3"]) -> Any:
        log_prob = Categorical(logits[None], (3,), scalar=True).log_prob(action)
        return PolicyGradient()(log_prob - jax.lax.stop_gradient(log_prob), weight)

    return jax.grad(objective)(logits)  # type: ignore[no-any-return]


@jax.jit
def estimates(baseline: Any) -> Float[Array, "counts draws 3"]:
    """Gradients from the first samples of each draw; a baseline is taken from every reward."""
    actions = jax.random.categorical(jax.random.key(SEED), LOGITS, shape=(DRAWS, max(COUNTS)))
    each = jnp.stack([push(LOGITS, jnp.asarray(a), REWARDS[a] - baseline) for a in range(len(LOGITS))])
    sums = jnp.cumsum(each[actions], axis=1)
    return jnp.stack([sums[:, count - 1] / count for count in COUNTS])


def gradient() -> dict[str, Any]:
    """The numbers of the figure."""
    probabilities = jax.nn.softmax(LOGITS)
    value = probabilities @ REWARDS
    true = jax.grad(lambda logits: jax.nn.softmax(logits) @ REWARDS)(LOGITS)
    each = [
        [rounded(push(LOGITS, jnp.asarray(action), jnp.asarray(weight))) for weight in ADVANTAGES]
        for action in range(len(LOGITS))
    ]
    cosine, spread = dict[str, Any](), dict[str, Any]()
    for name, baseline in (("raw reward", jnp.zeros(())), ("advantage", value)):
        found = estimates(baseline)
        lengths = jnp.linalg.norm(found, axis=-1) * jnp.linalg.norm(true)
        cosine[name] = rounded(jnp.mean(found @ true / jnp.maximum(lengths, 1e-12), axis=-1))
        spread[name] = rounded(jnp.sqrt(jnp.sum(jnp.var(found, axis=1), axis=-1)))
    return {
        "logits": rounded(LOGITS),
        "probabilities": rounded(probabilities),
        "rewards": rounded(REWARDS),
        "value": rounded(value),
        "true": rounded(true),
        "weights": ADVANTAGES,
        "push": each,
        "counts": COUNTS,
        "cosine": cosine,
        "spread": spread,
        "draws": DRAWS,
    }
