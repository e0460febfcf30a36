"""What the presets learn: whole runs on real environments, all seeds kept.

    python -m benchmarks.learning            run what is missing, then print the table and draw the figure

Resumable: a finished cell is one file under `results/learning/` and is never run again.
"""

import csv
import json
import os
import queue
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

RESULTS = Path("results/learning")
FIGURE = Path("docs/learning.png")
LAST = 100  # a run's score is the mean return of its last 100 training episodes, as in the paper
SEEDS = (1, 2, 3)

# (environment, preset) -> the range that others publish for it, and who
PUBLISHED: dict[tuple[str, str], tuple[float, float, str]] = {
    ("HalfCheetah-v5", "paper"): (1443, 2906, "CleanRL v4 1443-2906, OpenAI baselines 1669"),
    ("Hopper-v5", "paper"): (2052, 2383, "CleanRL v4 2052-2383, OpenAI baselines 2316"),
    ("Walker2d-v5", "paper"): (2288, 3425, "CleanRL v4 2288-2891, OpenAI baselines 3425"),
    ("CartPole-v1", "default"): (475, 500, "solved at 475 (Gymnasium), RL Baselines3 Zoo 500"),
    ("Acrobot-v1", "default"): (-100, -73, "solved at -100 (Gymnasium), RL Baselines3 Zoo -73 (1M)"),
    ("LunarLander-v3", "default"): (200, 242, "solved at 200 (Gymnasium), RL Baselines3 Zoo 242 (v2)"),
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    processes: int = 2
    """Runs side by side."""
    only: str | None = None
    """One environment alone."""


def cell_path(env: str, preset: str, seed: int) -> Path:
    """Where a finished run is kept."""
    return RESULTS / f"{env}-{preset}-{seed}.json"


def run_cell(env: str, preset: str, seed: int, cores: "queue.SimpleQueue[int]") -> None:
    """One run through the real command line, on a core of its own, kept as one file of all its episodes."""
    core = cores.get()
    try:
        kept(env, preset, seed, core)
    finally:
        cores.put(core)


def kept(env: str, preset: str, seed: int, core: int) -> None:
    """Run a cell and write its file."""
    command = ["proximo", "train", env, "--preset", preset, "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [sys.executable, "-m", *command, "--quiet", "--json", "--out", str(out)]
        pin = (lambda: os.sched_setaffinity(0, {core})) if hasattr(os, "sched_setaffinity") else None
        done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=pin)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
        config = json.loads((out / "config.json").read_text())
        with (out / "episodes.csv").open() as file:
            rows = list(csv.DictReader(file))
        content = {
            "command": " ".join(command),
            "env": env,
            "preset": preset,
            "seed": seed,
            "steps": json.loads(done.stdout)["steps"],
            "versions": config["versions"],
            "episode_end_step": [int(row["step"]) for row in rows],
            "episode_return": [round(float(row["return"]), 1) for row in rows],
        }
    path = cell_path(env, preset, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)
    print(f"{path}: {np.mean(content['episode_return'][-LAST:]):.1f}", flush=True)


def summary() -> list[dict[str, Any]]:
    """Per environment: the score of each seed, their mean with a 95% interval, and what others publish."""
    table = []
    for (env, preset), (low, high, source) in PUBLISHED.items():
        paths = [cell_path(env, preset, seed) for seed in SEEDS]
        runs = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not runs:
            continue
        scores = [float(np.mean(run["episode_return"][-LAST:])) for run in runs]
        half = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores) if len(scores) > 1 else float("nan")
        table.append(
            {
                "env": env,
                "preset": preset,
                "scores": [round(score, 1) for score in scores],
                "mean": round(float(np.mean(scores)), 1),
                "low": round(float(np.mean(scores) - half), 1),
                "high": round(float(np.mean(scores) + half), 1),
                "steps": runs[0]["steps"],
                "published": [low, high],
                "source": source,
            }
        )
    return table


def draw() -> None:
    """Learning curves of every seed, and the published range as a band."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6), constrained_layout=True)
    for axis, ((env, preset), (low, high, _)) in zip(axes.flat, PUBLISHED.items(), strict=True):
        axis.axhspan(low, high, color="0.9", label="published (last 100 episodes)")
        for seed in SEEDS:
            if not cell_path(env, preset, seed).exists():
                continue
            run = json.loads(cell_path(env, preset, seed).read_text())
            returns = np.asarray(run["episode_return"])
            window = min(LAST, len(returns))
            smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
            axis.plot(run["episode_end_step"][window - 1 :], smooth, label=f"seed {seed}")
        axis.set_title(f"{env}, {preset}", fontsize=10)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("mean return, 100 episodes")
    axes.flat[0].legend(fontsize=7)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main(options: Options) -> None:
    """Run what is missing, two at a time; then the table and the figure."""
    missing = [
        (env, preset, seed)
        for env, preset in PUBLISHED
        for seed in SEEDS
        if options.only in (None, env) and not cell_path(env, preset, seed).exists()
    ]
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in range(options.processes):
        cores.put(core)
    with ThreadPoolExecutor(options.processes) as pool:
        for future in [pool.submit(run_cell, *cell, cores) for cell in missing]:
            future.result()
    table = summary()
    (RESULTS / "summary.json").write_text(json.dumps(table, indent=1) + "\n")
    draw()
    for row in table:
        interval = f"[{row['low']:.0f}, {row['high']:.0f}]"
        print(f"{row['env']:16s} {row['preset']:8s} {row['mean']:8.1f} {interval:18s} {row['source']}")


if __name__ == "__main__":
    main(tyro.cli(Options))
