"""What looking at all that environments return costs: `python -m benchmarks.environment_checks`.

Eight copies of HalfCheetah-v5 under random actions, in each mode: steps per second over those of the same
vector without copies of actions and without a look. Interleaved rounds in one process; raw numbers in
results/speed/environment_checks.json.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.interleaved import ROOT, machine, ratio, ratio_lines, say, write
from proximo.envs import HostEnvs, make_envs
from proximo.envs.vector.environment_slice import EnvironmentSlice
from proximo.envs.vector.parallel import ParallelVectorEnv, spare_workers

ENV, NUM_ENVS = "HalfCheetah-v5", 8
ROUNDS, ROUND_SECONDS = 40, 1.0
TARGET = 0.98
RESULT = ROOT / "results/speed/environment_checks.json"
COMMAND = "python -m benchmarks.environment_checks"


class Trusting(EnvironmentSlice):
    """Takes what environments return as it comes."""

    def _reset(self, index: int, seed: int | None) -> None:
        self.at[self.first] = ~index
        self.obs[index], _ = self.envs[index - self.first].reset(seed=seed)
        self.seam[index - self.first] = False

    def _step(self, index: int) -> None:
        position = index - self.first
        if self.seam[position]:
            self._reset(index, None)
            self.reward[index], self.terminated[index], self.truncated[index] = 0.0, False, False
            return
        self.at[self.first] = index
        obs, reward, terminated, truncated, _ = self.envs[position].step(self.actions[index])
        self.reward[index], self.terminated[index], self.truncated[index] = reward, terminated, truncated
        self.obs[index] = obs
        self.seam[position] = terminated or truncated


class TrustingVectorEnv(ParallelVectorEnv):
    """Our vector, of such shares."""

    chunk = Trusting


def ours(kind: type[ParallelVectorEnv], num_workers: int) -> HostEnvs:
    """Our vector, or the one that trusts."""
    make = partial(gym.make, ENV)
    return HostEnvs(kind(make, make(), NUM_ENVS, num_workers), ENV)


def passed(trusting: bool) -> HostEnvs:
    """A vector that the caller made, whose batches are looked at as a whole."""
    envs = make_envs(gym.vector.SyncVectorEnv([partial(gym.make, ENV)] * NUM_ENVS, copy=False))
    if trusting:
        envs._form = envs._infos = None
    return envs


def pairs() -> dict[str, Callable[[], tuple[HostEnvs, HostEnvs]]]:
    """For each mode, how to make what looks and what trusts."""
    workers = {"sync": 0, "parallel": spare_workers(NUM_ENVS), "async": NUM_ENVS}
    kinds = (ParallelVectorEnv, TrustingVectorEnv)
    made: dict[str, Any] = {
        mode: lambda count=count: tuple(ours(kind, count) for kind in kinds)
        for mode, count in workers.items()
    }
    return {**made, "a vector of the caller's": lambda: (passed(False), passed(True))}


def rate(envs: HostEnvs, actions: np.ndarray, seconds: float) -> float:
    """Steps per second of all environments."""
    count, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        for row in actions:
            envs.step(row)
        count += len(actions) * NUM_ENVS
    return count / took


def measured(
    make: Callable[[], tuple[HostEnvs, HostEnvs]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """The rates of every round, {"looks": [rounds], "trusts": [rounds]}."""
    found: dict[str, list[float]] = {"looks": [], "trusts": []}
    with contextlib.ExitStack() as stack:
        both = dict(zip(found, make(), strict=True))
        for envs in both.values():
            stack.callback(envs.vector.close)
            envs.reset(list(range(NUM_ENVS)))
        space = both["looks"].action_space
        space.seed(0)
        actions = np.stack([space.sample() for _ in range(100)])
        for number in range(-2, rounds):  # two to warm up
            for name in list(found)[:: 1 if number % 2 else -1]:
                one = rate(both[name], actions, seconds)
                if number >= 0:
                    found[name].append(one)
    return found


def main() -> None:
    """Measure, write the file, print a table."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="of each vector in a round")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    about, rounds = machine(), {}
    for mode, make in pairs().items():
        say(f"{mode}: {options.rounds} rounds")
        rounds[mode] = measured(make, options.rounds, options.seconds)
    ratios = {
        mode: ratio(np.array(found["looks"]), np.array(found["trusts"]), TARGET)
        for mode, found in rounds.items()
    }
    report = {"command": COMMAND, "machine": about, "env": ENV, "num_envs": NUM_ENVS}
    write({**report, "ratios": ratios, "steps_per_second": rounds}, options.out)
    print("\n".join(ratio_lines(ratios)))


if __name__ == "__main__":
    main()
