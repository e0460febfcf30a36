"""Tasks that a policy without memory cannot solve, and those whose observations are images and texts."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from proximo.envs.pool import Pool
from proximo.policies.distributions import StateDependentExploration


class Masked(gym.ObservationWrapper):
    """An environment in whose observations some entries, mostly velocities, are always 0.

    RL Baselines3 Zoo's wrapper of the same purpose has the same entries.
    """

    def __init__(self, env: gym.Env, hidden: list[int]) -> None:
        super().__init__(env)
        self.hidden = hidden

    def observation(self, observation: np.ndarray) -> np.ndarray:
        shown = observation.copy()
        shown[self.hidden] = 0.0
        return shown


def cart_pole() -> gym.Env:
    """Positions of cart and pole alone."""
    return Masked(gym.make("CartPole-v1"), [1, 3])


def pendulum() -> gym.Env:
    """The pendulum's angle alone."""
    return Masked(gym.make("Pendulum-v1"), [2])


def mountain_car() -> gym.Env:
    """The car's position alone."""
    return Masked(gym.make("MountainCarContinuous-v0"), [1])


def memory_s7() -> gym.Env:
    """The hallway whose first room tells which of two objects to go to; what is seen is 7 x 7 x 3 codes."""
    importlib.import_module("minigrid")  # registers it
    return gym.wrappers.FlattenObservation(Picture(gym.make("MiniGrid-MemoryS7-v0")))


class Picture(gym.ObservationWrapper):
    """What MiniGrid shows, without the mission, which is always the same, and the compass."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = env.observation_space["image"]

    def observation(self, observation: dict[str, Any]) -> np.ndarray:
        shown: np.ndarray = observation["image"]
        return shown


class TMaze(gym.Env[np.ndarray, np.int64]):
    """A corridor whose first cell tells which way to turn at its end (Bakker 2002, section 4).

    Actions: 0 north, 1 east, 2 south, 3 west. Observations: 011 or 110 in the first cell, 101 in the
    corridor, 010 at the junction. The right turn is worth 4; a wrong one, and a step into a wall, cost 0.1.

    length  cells from the first one to the junction
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    ends = (np.float32([0, 1, 1]), np.float32([1, 1, 0]))
    corridor, junction = np.float32([1, 0, 1]), np.float32([0, 1, 0])

    def __init__(self, length: int = 10) -> None:
        self.length = length
        self.observation_space = spaces.Box(0.0, 1.0, (3,))
        self.action_space = spaces.Discrete(4)

    def seen(self) -> np.ndarray:
        if self.place == 0:
            return self.ends[self.side]
        return self.junction if self.place == self.length else self.corridor

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.side, self.place, self.clock = int(self.np_random.integers(2)), 0, 0
        return self.seen(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        late = self.clock == 4 * self.length
        if self.place == self.length and action in (0, 2):
            right = action == 2 * self.side
            return self.seen(), 4.0 if right else -0.1, True, False, {"is_success": right}
        after = int(np.clip(self.place + {1: 1, 3: -1}.get(int(action), 0), 0, self.length))
        moved, self.place = after != self.place, after
        return self.seen(), 0.0 if moved else -0.1, False, late, {"is_success": False}


class Unsaid(Pool):
    """A pool that does not tell its missions."""

    def _told(self, obs: Any) -> Any:
        return {**super()._told(obs), "mission": ("",) * self.num_envs}


UNSAID = "Unsaid/BabyAI-GoToLocalS6N4-v0"
gym.register(UNSAID, vector_entry_point=Unsaid, kwargs={"task": UNSAID.partition("/")[2]})


@dataclass(frozen=True)
class Task:
    """What is learned, for how long, and what others report.

    env        what `proximo.train` takes
    steps      environment steps
    options    that differ from the defaults for an environment of one's own
    networks   that are compared
    above      the return of a success; None where returns are the measure
    published  by others, and where
    together   whether seeds train as one ensemble: small networks gain by it
    """

    env: str | Callable[[], gym.Env]
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    networks: tuple[str, ...] = ("lstm", "gru", "transformer", "mlp")
    above: float | None = None
    published: str = "-"
    together: bool = True

    def score(self, returns: Sequence[float]) -> float:
        """The mean return, or the share of successes."""
        return float(np.mean(np.asarray(returns) > self.above if self.above is not None else returns))


ZOO = "RL Baselines3 Zoo's recurrent PPO"
WORLDS: dict[str, Any] = dict(learning_rate=1e-3)
TASKS = {
    "CartPoleNoVel": Task(
        cart_pole,
        100_000,
        dict(  # the zoo's
            horizon=32,
            minibatch_size=256,
            epochs=20,
            learning_rate=1e-3,
            gamma=0.98,
            gae_lambda=0.8,
            entropy_coefficient=0.0,
            anneal_clip=True,
        ),
        published=f"500 +- 0 ({ZOO})",
    ),
    "TMaze": Task(TMaze, 100_000, WORLDS, above=1.0, published="0.5 without memory"),
    "PendulumNoVel": Task(
        pendulum,
        100_000,
        dict(  # the zoo's, with half as many and larger minibatches, and without gSDE
            horizon=256,
            minibatch_size=256,
            learning_rate=1e-3,
            gamma=0.9,
            gae_lambda=0.95,
            entropy_coefficient=0.0,
        ),
        published=f"-218 +- 140 ({ZOO})",
    ),
    "BabyAI-GoToObj": Task("envpool/BabyAI-GoToObj-v0", 200_000, WORLDS, ("mlp",), above=0.0, together=False),
    "BabyAI-GoToLocalS6N4": Task(
        "envpool/BabyAI-GoToLocalS6N4-v0", 500_000, WORLDS, ("mlp",), together=False
    ),
    "BabyAI-GoToLocalS6N4, no mission": Task(UNSAID, 500_000, WORLDS, ("mlp",), together=False),
    "MountainCarContinuousNoVel": Task(
        mountain_car,
        300_000,
        dict(  # noise that is held reaches the goal before the cost of acting teaches to stand still
            distribution=StateDependentExploration(64),
            initial_log_std=1.0,
            num_envs=16,
            minibatch_size=256,
            learning_rate=3e-4,
            gamma=0.9999,
            entropy_coefficient=0.0,
        ),
        published=f"91.5 +- 1.8 ({ZOO})",
    ),
    "MiniGrid-MemoryS7": Task(
        memory_s7, 2_000_000, WORLDS, ("lstm", "mlp"), above=0.0, published="0.5 without memory"
    ),
    "popgym-RepeatPreviousEasy": Task("popgym-RepeatPreviousEasy-v0", 1_000_000, WORLDS),
}
