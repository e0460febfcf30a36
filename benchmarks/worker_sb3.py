"""Stable-Baselines3, as its users run it: `python -m benchmarks.worker_sb3 NUM_ENVS HORIZON [THREADS]`."""

import sys
from collections.abc import Callable

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from benchmarks import ENV, HIDDEN, OPTIONS, serve, shape


def normalised_envs(num_envs: int) -> VecNormalize:
    """The vector of SB3's documentation: monitored environments, observations and rewards normalised."""
    envs = make_vec_env(ENV, num_envs, seed=0, vec_env_cls=DummyVecEnv)
    return VecNormalize(envs, gamma=OPTIONS["gamma"])


def learning(model: BaseAlgorithm, samples: int) -> Callable[[int], int]:
    """`train` for `serve`: the public `learn`, one call for all K iterations.

    With `reset_num_timesteps=False` it goes on where it stopped: neither the environments nor the
    statistics are reset, and what a call costs besides its iterations is well below a millisecond. Logging
    is as quiet as it can be (verbose=0: values are recorded, nothing is printed or written).
    """

    def train(iterations: int) -> int:
        before = model.num_timesteps
        model.learn(iterations * samples, reset_num_timesteps=False)
        return model.num_timesteps - before

    return train


def main() -> None:
    num_envs, horizon = shape()
    if len(sys.argv) > 3:
        torch.set_num_threads(int(sys.argv[3]))
    model = PPO(
        "MlpPolicy",
        normalised_envs(num_envs),
        n_steps=horizon,
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}, "activation_fn": torch.nn.Tanh},
        seed=0,
        device="cpu",
        **OPTIONS,
    )
    packages = ("stable_baselines3", "torch", "numpy", "gymnasium", "mujoco")
    serve(learning(model, num_envs * horizon), packages, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
