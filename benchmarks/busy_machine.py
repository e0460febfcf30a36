"""Where environments are best stepped, alone and beside busy processes: `python -m benchmarks.busy_machine`.

The whole loop on HalfCheetah-v5, 1 x 2048 and 8 x 256, in three ways: in one process (`sync`), split across
cores (`parallel`), and as the recipe has it, which chooses between the two (`auto`). Each load is so many
processes that spin all the time. Interleaved rounds in one process; raw numbers in
results/speed/busy-machine.json. It takes about six minutes.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import ROOT, machine, ratio, ratio_lines, say, write
from proximo.control.config import preset, with_options
from proximo.control.train import training
from proximo.runs.process import prepare_process

ENV, MODES = "HalfCheetah-v5", ("sync", "parallel", "auto")
SIZES = {"1 x 2048": dict(num_envs=1, horizon=2048), "8 x 256": dict(num_envs=8, horizon=256)}
ROUNDS, ROUND_SECONDS, WARM_SECONDS = 12, 2.0, 4.0
BESIDE, ALONE = 0.95, 0.98  # of `sync` beside a busy process, of `parallel` alone
RESULT = ROOT / "results/speed/busy-machine.json"
COMMAND = "python -m benchmarks.busy_machine"


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def steps_per_second(run: Iterator[Any], size: dict[str, int], at_least: float) -> float:
    """Of so many seconds of training, and the rest of the iteration; seams count as steps."""
    started, count = time.perf_counter(), 0
    while (took := time.perf_counter() - started) < at_least:
        next(run)
        count += size["num_envs"] * size["horizon"]
    return count / took


def measured(size: dict[str, int], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The rates of every round, by mode."""
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    with contextlib.ExitStack() as stack:
        runs = {}
        for mode in MODES:
            config = with_options(preset("default", ENV), steps=10**9, vectorization_mode=mode, **size)
            runs[mode] = stack.enter_context(contextlib.closing(training(config)))
            steps_per_second(runs[mode], size, WARM_SECONDS)
        for number in range(rounds):
            for mode in MODES[number % 3 :] + MODES[: number % 3]:
                found[mode].append(steps_per_second(runs[mode], size, seconds))
    return found


def ratios(found: dict[str, list[float]], load: int) -> dict[str, dict[str, Any]]:
    """Of `auto` to what it is to reach, and of the two that it chooses from."""
    rates = {mode: np.array(found[mode]) for mode in MODES}
    return {
        "auto / sync": ratio(rates["auto"], rates["sync"], BESIDE if load else None),
        "auto / parallel": ratio(rates["auto"], rates["parallel"], None if load else ALONE),
        "parallel / sync": ratio(rates["parallel"], rates["sync"], None),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write the file, print tables."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1], help="busy processes, a table each")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="of each mode in a round")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(words)
    prepare_process()
    about, cells, lines = machine(), [], []
    for load in options.busy:
        for name, size in SIZES.items():
            say(f"{name} beside {load} busy: {options.rounds} rounds")
            with busy(load):
                found = measured(size, options.rounds, options.seconds)
            compared = ratios(found, load)
            cells.append({"size": name, "busy": load, "ratios": compared, "steps_per_second": found})
            medians = ", ".join(f"{mode} {np.median(rates):,.0f}" for mode, rates in found.items())
            lines += [f"{name} beside {load} busy, steps per second: {medians}", *ratio_lines(compared)]
    write({"command": COMMAND, "machine": about, "env": ENV, "cells": cells}, options.out)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
