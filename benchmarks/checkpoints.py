"""What checkpoints cost: `python -m benchmarks.checkpoints`; raw numbers in results/speed/checkpoints.json.

HalfCheetah-v5, 8 x 256. Seconds and bytes of single checkpoints; and the rate of training with one every
five seconds (six times as often as by default), over training with none, in interleaved rounds.
"""

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from proximo.control.config import preset, with_options
from proximo.control.files import checkpoint_files, control_files
from proximo.control.train import training
from proximo.runs.checkpoints import Checkpoints
from proximo.runs.folder import RunFolder
from proximo.runs.process import prepare_process
from proximo.runs.record import CHECKPOINT_SECONDS, record

RESULT = Path("results/speed/checkpoints.json")
CONFIG = with_options(preset("default", "HalfCheetah-v5"), steps=10**9)
SAVES, ROUNDS, ROUND_SECONDS, EVERY = 20, 5, 10.0, 5.0


def saves(folder: Path) -> tuple[list[float], int]:
    """Seconds of each save, and the bytes of the last one."""
    checkpoints, seconds = Checkpoints(folder / "checkpoints"), []
    with contextlib.closing(training(CONFIG)) as iterations:
        for iteration, _ in zip(iterations, range(SAVES + 2), strict=False):
            started = time.perf_counter()
            path = checkpoints.save(iteration.steps, checkpoint_files(iteration, CONFIG))
            seconds.append(time.perf_counter() - started)
    return seconds[2:], sum(file.stat().st_size for file in path.iterdir())


def rates(folder: Path) -> dict[str, list[float]]:
    """Steps per second of each round, with checkpoints and without."""
    found: dict[str, list[float]] = {"with": [], "without": []}
    with contextlib.ExitStack() as stack:
        runs: dict[str, Any] = {}
        for name, every in (("with", EVERY), ("without", 1e9)):
            run = record(training(CONFIG), RunFolder.create(control_files(CONFIG), folder / name), every)
            runs[name] = stack.enter_context(contextlib.closing(run))
            next(runs[name]), next(runs[name])
        for _ in range(ROUNDS):
            for name, run in runs.items():
                started, before = time.perf_counter(), next(run).steps
                while time.perf_counter() - started < ROUND_SECONDS:
                    steps = next(run).steps
                found[name].append((steps - before) / (time.perf_counter() - started))
    return found


def main() -> None:
    """Measure, write the file, print it in a line."""
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        seconds, size = saves(Path(folder) / "saves")
        found = rates(Path(folder))
    ratio = float(np.median(np.array(found["with"]) / found["without"]))
    content = {
        "command": "python -m benchmarks.checkpoints",
        "save_seconds": seconds,
        "bytes": size,
        "steps_per_second": found,
        "median_save_milliseconds": round(1e3 * float(np.median(seconds)), 1),
        "rate_with_over_without": round(ratio, 4),
        "share_of_time_by_default": round(float(np.median(seconds)) / CHECKPOINT_SECONDS, 5),
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    print({name: content[name] for name in list(content)[-3:]}, f"{size:,} bytes")


if __name__ == "__main__":
    main()
