"""One worker of `pixels`: `python -m benchmarks.worker_pixels KIND [THREADS]`.

`torch` and `torch-channels-last`, `ours` and `xla` do the three convolutions of Mnih 2015 and the dense layer
behind them, forward and backward, for 256 frames; `ours-in-a-loop` and `xla-in-a-loop` take gradient steps in
a compiled loop, as an update does; `sb3`, `proximo` and `paper` learn Pong.
"""

import sys
from typing import Any

from benchmarks import serve

FRAMES = 256
LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, kernel, stride
FLAT, FEATURES = 3136, 512
STEPS = 4  # of the loop
NUM_ENVS, HORIZON, EPOCHS, MINIBATCH = 8, 128, 4, 256


def torch_network(threads: int | None, channels_last: bool) -> None:
    """Eager PyTorch, as Stable-Baselines3 and CleanRL have it."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    layers: list[Any] = []
    channels = 4
    for outputs, size, stride in LAYERS:
        layers += [torch.nn.Conv2d(channels, outputs, size, stride), torch.nn.ReLU()]
        channels = outputs
    network = torch.nn.Sequential(
        *layers, torch.nn.Flatten(), torch.nn.Linear(FLAT, FEATURES), torch.nn.ReLU()
    )
    frames = torch.randint(0, 256, (FRAMES, 4, 84, 84), dtype=torch.uint8)
    if channels_last:
        network, frames = (
            network.to(memory_format=torch.channels_last),
            frames.contiguous(memory_format=torch.channels_last),
        )

    def train(iterations: int) -> int:
        for _ in range(iterations):
            network.zero_grad()
            (network(frames.float() / 255.0) ** 2).sum().backward()
        return iterations * FRAMES

    serve(train, ("torch",), threads=torch.get_num_threads())


def jax_network(ours: bool, in_a_loop: bool) -> None:
    """The same network of ours, with our convolution or with XLA's."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from proximo.policies import convolution
    from proximo.policies.convolve import plain_convolution

    if not ours:
        convolution.convolution = plain_convolution
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 256, (FRAMES, 4, 84, 84), np.uint8))
    network = convolution.Nature().network(jax.random.key(0), (84, 84, 4), "orthogonal")

    @eqx.filter_grad
    def slopes(network: Any) -> Any:
        return jnp.sum(network(jnp.moveaxis(frames, 1, -1)) ** 2)

    @eqx.filter_jit
    def descended(network: Any) -> Any:
        arrays, rest = eqx.partition(network, eqx.is_inexact_array)

        def step(_: Any, arrays: Any) -> Any:
            slope = slopes(eqx.combine(arrays, rest))
            return jax.tree.map(lambda x, y: x - 1e-9 * y, arrays, eqx.filter(slope, eqx.is_inexact_array))

        return jax.lax.fori_loop(0, STEPS, step, arrays)

    work, frames_each = (descended, STEPS * FRAMES) if in_a_loop else (eqx.filter_jit(slopes), FRAMES)

    def train(iterations: int) -> int:
        for _ in range(iterations):
            jax.block_until_ready(work(network))
        return iterations * frames_each

    serve(train, ("jax", "jaxlib"))


def sb3(threads: int | None) -> None:
    """Stable-Baselines3's PPO for Atari, with the wrappers and the options of its zoo."""
    import ale_py
    import gymnasium as gym
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    if threads:
        torch.set_num_threads(threads)
    gym.register_envs(ale_py)
    envs = VecFrameStack(make_atari_env("PongNoFrameskip-v4", NUM_ENVS, seed=0), 4)
    model = PPO(
        "CnnPolicy",
        envs,
        n_steps=HORIZON,
        n_epochs=EPOCHS,
        batch_size=MINIBATCH,
        learning_rate=2.5e-4,
        clip_range=0.1,
        vf_coef=0.5,
        ent_coef=0.01,
        seed=0,
        device="cpu",
    )

    def train(iterations: int) -> int:
        before = model.num_timesteps
        model.learn(iterations * NUM_ENVS * HORIZON, reset_num_timesteps=False)
        return model.num_timesteps - before

    packages = ("stable_baselines3", "torch", "ale_py", "gymnasium")
    serve(train, packages, threads=torch.get_num_threads())


def proximo(preset_name: str) -> None:
    """Ours, with a preset."""
    from benchmarks.worker_proximo import learn
    from proximo.control.config import preset, with_options

    learn(with_options(preset(preset_name, "ALE/Pong-v5"), steps=10**9), "ale_py")


def main() -> None:
    kind, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
    if kind.startswith("torch"):
        torch_network(threads, kind.endswith("last"))
    elif kind.startswith(("ours", "xla")):
        jax_network(kind.startswith("ours"), kind.endswith("loop"))
    elif kind == "sb3":
        sb3(threads)
    else:
        proximo({"proximo": "ppo2", "paper": "paper"}[kind])


if __name__ == "__main__":
    main()
