"""How well a grid uses the machine, and what a TRPO update costs: `python -m benchmarks.grid`.

Interleaved rounds of: plain `proximo train` (one run, all cores it wants), one ensemble on one core, and
one ensemble on each of two cores at the same time; then TRPO's update and PPO's on the same rollout. The
results go to results/speed/grid.json, all rounds.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path("results/speed/grid.json")
MEMBERS = 12
ROUNDS = 7
UPDATES = 10
TURNS = 2  # of an ensemble, per round


class Asked:
    """A worker process that trains when it is asked to."""

    def __init__(self, *words: Any) -> None:
        command = [sys.executable, "-m", "benchmarks.worker_grid", *map(str, words)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()

    def ask(self, count: int) -> None:
        """Begin `count` turns."""
        assert self.process.stdin
        self.process.stdin.write(f"go {count}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What came of them."""
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


def rate(workers: list[Asked], count: int) -> float:
    """Steps per second of all workers together, each making `count` turns at the same time."""
    started = time.perf_counter()
    for worker in workers:
        worker.ask(count)
    steps = sum(worker.answer()["steps"] for worker in workers)
    return steps / (time.perf_counter() - started)


def update_seconds() -> dict[str, list[float]]:
    """Seconds of one update, per preset, interleaved; all of HalfCheetah's 2048 steps, warmed up."""
    import jax

    from proximo.control.config import preset
    from proximo.control.learner import new_learner
    from proximo.control.streams import streams
    from proximo.core.types import Experience
    from proximo.envs import make_envs
    from proximo.learn.update import update
    from proximo.runs.process import prepare_process

    prepare_process()
    env, rng, shape = "HalfCheetah-v5", np.random.default_rng(0), (2048, 1)
    envs = make_envs(env, 1)
    flags = np.zeros(shape, bool)
    experience = Experience(
        rng.normal(size=(2049, 1, 17)).astype(np.float32),
        rng.normal(size=(*shape, 6)).astype(np.float32),
        rng.normal(size=(*shape, 1)),
        flags,
        flags,
        flags,
        np.ones(shape, np.float32),
        np.zeros((2049, 1), bool),
    )
    configs = {name: preset(name, env) for name in ("paper", "trpo", "vanilla-policy-gradient")}
    learners = {name: new_learner(config, envs, streams(0)) for name, config in configs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    for number in range(UPDATES + 1):
        for name, config in configs.items():
            started = time.perf_counter()
            jax.block_until_ready(update(learners[name], experience, config.update, 1.0))
            if number:  # the first one compiles
                seconds[name].append(time.perf_counter() - started)
    envs.close()
    return seconds


def main() -> None:
    """Measure, write the file, print the ratios."""
    seconds = update_seconds()
    plain, first, second = Asked(1), Asked(MEMBERS, 0), Asked(MEMBERS, 1)
    rates: dict[str, list[float]] = {"plain_train": [], "one_process": [], "two_processes": []}
    for _ in range(ROUNDS):
        rates["plain_train"].append(rate([plain], TURNS * MEMBERS))
        rates["one_process"].append(rate([first], TURNS))
        rates["two_processes"].append(rate([first, second], TURNS))
    for worker in (plain, first, second):
        worker.process.communicate()  # its input ends, and so does it
    two_over_one = np.array(rates["two_processes"]) / rates["one_process"]
    two_over_plain = np.array(rates["two_processes"]) / rates["plain_train"]
    trpo = np.array(seconds["trpo"]) / seconds["paper"]
    content = {
        "command": "python -m benchmarks.grid",
        "versions": plain.ready["versions"],
        "members": MEMBERS,
        "steps_per_second": rates,
        "update_seconds": seconds,
        "ratios": {
            "two processes / one": round(float(np.median(two_over_one)), 3),
            "two processes / plain train": round(float(np.median(two_over_plain)), 3),
            "TRPO update / PPO update": round(float(np.median(trpo)), 3),
        },
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    for name, value in content["ratios"].items():
        print(f"{name:32s} {value:.2f}")


if __name__ == "__main__":
    main()
