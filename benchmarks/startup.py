"""What a user waits for: the import, the first policy from a cold process, and the memory it takes.

python -m benchmarks.startup             writes results/speed/startup.json
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

TARGETS = {
    "import_seconds": 1.0,
    "cartpole_cold_cache_seconds": 20.0,
    "cartpole_warm_cache_seconds": 10.0,
    "halfcheetah_peak_megabytes": 700.0,
}
MEASURED = """
import json, resource, sys
from proximo.cli import main
status = main(sys.argv[1:])
scale = 1024 if sys.platform == "linux" else 1024**2
who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
own, workers = (resource.getrusage(one).ru_maxrss / scale for one in who)
print(json.dumps({"status": status, "own": own, "worker": workers}))
"""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    repeats: int = 5
    """Processes per figure; the median is reported, all are kept."""
    out: Path = Path("results/speed/startup.json")
    """The raw result."""


def timed(words: list[str], cache: Path | None = None) -> tuple[float, str]:
    """Seconds of a whole process from nothing, and what it printed."""
    environment = dict(os.environ)
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return time.perf_counter() - started, done.stdout


def cartpole(cache: Path, out: Path, seed: int) -> dict[str, float]:
    """One process from nothing to CartPole-v1 solved (475 over the last 100 episodes)."""
    words = ["-m", "proximo", "train", "CartPole-v1", "--until", "475", "--seed", str(seed)]
    elapsed, printed = timed([sys.executable, *words, "--quiet", "--json", "--out", str(out)], cache)
    outcome = json.loads(printed)
    return {"seconds": elapsed, "steps": outcome["steps"], "ep_rew_mean": outcome["ep_rew_mean"]}


def measure(repeats: int) -> dict[str, Any]:
    """All figures, every repeat kept."""
    bare = [timed([sys.executable, "-c", ""])[0] for _ in range(repeats)]
    imported = [timed([sys.executable, "-c", "import proximo"])[0] for _ in range(repeats)]
    cold, warm = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(repeats):
            cache = Path(folder) / f"cache-{seed}"
            cold.append(cartpole(cache, Path(folder) / f"cold-{seed}", seed))
            warm.append(cartpole(cache, Path(folder) / f"warm-{seed}", seed))
        words = ["train", "HalfCheetah-v5", "--steps", "100000", "--quiet", "--json", "--out", f"{folder}/h"]
        memory = json.loads(timed([sys.executable, "-c", MEASURED, *words])[1].splitlines()[-1])
    return {"python": bare, "import": imported, "cold": cold, "warm": warm, "memory": memory}


def main(options: Options) -> None:
    """Measure, print next to the targets, and keep the raw result."""
    raw = measure(options.repeats)
    reached = {
        "import_seconds": statistics.median(raw["import"]),
        "cartpole_cold_cache_seconds": statistics.median(run["seconds"] for run in raw["cold"]),
        "cartpole_warm_cache_seconds": statistics.median(run["seconds"] for run in raw["warm"]),
        "halfcheetah_peak_megabytes": raw["memory"]["own"],
    }
    for name, value in reached.items():
        print(f"{name:30s} {value:8.2f}   target <= {TARGETS[name]}")
    content = {
        "reached": reached,
        "targets": TARGETS,
        "raw": raw,
        "machine": platform.processor() or "x86_64",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
