"""The task of `memory.py`, which both virtual environments read."""

from typing import Any

ENVS = ("CartPole-v1", "Pendulum-v1", "HalfCheetah-v5")
NUM_ENVS, HORIZON = 8, 128
LSTM = 64  # units; both have two dense layers of 64 besides
OPTIONS: dict[str, Any] = dict(batch_size=128, n_epochs=10)  # the defaults of sb3-contrib's RecurrentPPO
