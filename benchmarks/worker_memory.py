"""A policy with an LSTM, in either virtual environment.

    python -m benchmarks.worker_memory LIBRARY ENV [THREADS]

LIBRARY is `proximo`, `separate` (Proximo with a critic that has an LSTM of its own), `no-memory` (Proximo
without one) or `contrib` (RecurrentPPO of sb3-contrib, with a critic's own LSTM, its default).
"""

import sys
from typing import Any

from benchmarks import serve
from benchmarks.memory_task import HORIZON, LSTM, NUM_ENVS, OPTIONS


def proximo(library: str, env: str) -> None:
    """Proximo's `training`, with what the task says and defaults elsewhere."""
    from proximo.control.config import Config, with_options
    from proximo.control.train import training
    from proximo.policies.memory import Lstm
    from proximo.runs.process import prepare_process

    prepare_process()
    chosen: dict[str, Any] = {} if library == "no-memory" else {"network": Lstm(LSTM)}
    if library == "separate":
        chosen["separate_critic"] = True
    config = with_options(
        Config(env),
        num_envs=NUM_ENVS,
        horizon=HORIZON,
        steps=10**9,
        minibatch_size=OPTIONS["batch_size"],
        epochs=OPTIONS["n_epochs"],
        **chosen,
    )
    iterations, steps = training(config), 0

    def train(count: int) -> int:
        nonlocal steps
        before = steps
        for _ in range(count):
            steps = next(iterations).steps
        return steps - before

    serve(train, ("proximo", "jax", "jaxlib", "numpy", "gymnasium"))


def contrib(env: str, threads: int | None) -> None:
    """RecurrentPPO as the documentation has it, in the normalised vector of SB3's."""
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from benchmarks.worker_sb3 import learning

    if threads is not None:
        torch.set_num_threads(threads)
    envs = VecNormalize(make_vec_env(env, NUM_ENVS, seed=0, vec_env_cls=DummyVecEnv))
    model = RecurrentPPO(
        "MlpLstmPolicy",
        envs,
        n_steps=HORIZON,
        policy_kwargs={"lstm_hidden_size": LSTM},
        seed=0,
        device="cpu",
        **OPTIONS,
    )
    packages = ("sb3_contrib", "stable_baselines3", "torch", "numpy", "gymnasium")
    serve(learning(model, NUM_ENVS * HORIZON), packages, threads=torch.get_num_threads())


if __name__ == "__main__":
    name, env_id, *more = sys.argv[1:]
    if name == "contrib":
        contrib(env_id, int(more[0]) if more else None)
    else:
        proximo(name, env_id)
