"""SBX, as its users run it: `python -m benchmarks.worker_sbx NUM_ENVS HORIZON`."""

import flax.linen as nn
import jax
from sbx import PPO

from benchmarks import HIDDEN, OPTIONS, serve, shape
from benchmarks.worker_sb3 import learning, normalised_envs


def main() -> None:
    num_envs, horizon = shape()
    model = PPO(
        "MlpPolicy",
        normalised_envs(num_envs),
        n_steps=horizon,
        policy_kwargs={"net_arch": list(HIDDEN), "activation_fn": nn.tanh},  # actor and critic each
        seed=0,
        **OPTIONS,
    )
    learn = learning(model, num_envs * horizon)

    def train(iterations: int) -> int:
        steps = learn(iterations)
        # JAX runs ahead of the host: the last gradient step belongs to this chunk, not to the next.
        jax.block_until_ready((model.policy.actor_state.params, model.policy.vf_state.params))
        return steps

    serve(train, ("sbx-rl", "jax", "jaxlib", "flax", "numpy", "gymnasium", "mujoco"))


if __name__ == "__main__":
    main()
