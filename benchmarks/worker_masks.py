"""One library with masks: `python -m benchmarks.worker_masks NUM_ENVS HORIZON TASK LIBRARY [THREADS]`.

LIBRARY is `proximo`, `sb3-contrib`, or `floor`: the environments alone, with random legal actions.
"""

import sys

import gymnasium as gym
import numpy as np

from benchmarks import HIDDEN, OPTIONS, serve, shape
from benchmarks.masks_task import TASKS, InvalidActions


def proximo(task: type[InvalidActions], num_envs: int, horizon: int) -> None:
    """As the command trains it, with the options of the other."""
    from benchmarks.worker_proximo import learn, with_peers_options
    from proximo.control.config import preset

    config = with_peers_options(preset("default", task), num_envs, horizon)
    learn(config, normalise_observations=False, normalise_rewards=False, entropy_coefficient=0.0)


def sb3_contrib(task: type[InvalidActions], num_envs: int, horizon: int) -> None:
    """As its users run it."""
    import torch
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    from benchmarks.worker_sb3 import learning

    if len(sys.argv) > 5:
        torch.set_num_threads(int(sys.argv[5]))
    model = MaskablePPO(
        "MlpPolicy",
        make_vec_env(task, num_envs, seed=0, vec_env_cls=DummyVecEnv),
        n_steps=horizon,
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}, "activation_fn": torch.nn.Tanh},
        seed=0,
        device="cpu",
        **OPTIONS,
    )
    packages = ("sb3_contrib", "stable_baselines3", "torch", "numpy", "gymnasium")
    serve(learning(model, num_envs * horizon), packages, threads=torch.get_num_threads())


def floor(task: type[InvalidActions], num_envs: int, horizon: int) -> None:
    """Step Gymnasium's vector on actions drawn beforehand, and ask for the masks."""
    envs = gym.vector.SyncVectorEnv([task] * num_envs, copy=False)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    actions = [envs.action_space.sample() for _ in range(horizon)]

    def step(iterations: int) -> int:
        resets = 0
        for _ in range(iterations):
            for action in actions:
                _, _, terminated, truncated, _ = envs.step(action)
                envs.call("action_masks")
                resets += int(np.count_nonzero(terminated | truncated))  # the step after is no step
        return iterations * horizon * num_envs - resets

    serve(step, ("numpy", "gymnasium"))


LIBRARIES = {"proximo": proximo, "sb3-contrib": sb3_contrib, "floor": floor}

if __name__ == "__main__":
    LIBRARIES[sys.argv[4]](TASKS[sys.argv[3]], *shape())
