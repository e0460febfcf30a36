"""Workers that are asked in turn, and ratios inside a round: what the benchmarks of speed share.

Every library is a process of its own that has compiled and warmed up its work and then waits. In every round
each does a few iterations, one at a time and in rotating order, so that a noisy machine hits all alike. What
counts is the ratio of two rates of the same round; the rates themselves belong to the machine.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CHUNK_SECONDS = 3.0  # about what a worker is asked for in one round
PAUSE_SECONDS = 0.3  # OpenMP's threads spin for up to 0.2 s after their last work

Answer = dict[str, Any]
Round = dict[str, Answer]
Command = tuple[Path, str, Sequence[object]]  # Python, module of benchmarks, further words


class WorkerError(Exception):
    """A worker died; the message is one line."""


class Worker:
    """One library in its own process, warmed up and blocked on its standard input unless asked."""

    def __init__(self, name: str, command: Command, folder: Path = ROOT) -> None:
        python, module, words = command
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`stop` closes it)
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", *map(str, words)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def answer(self) -> Answer:
        """The next answer. Raises WorkerError if there is none."""
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            tail = [line.strip() for line in self._errors.readlines() if line.strip()][-2:]
            reason = " | ".join(tail) or "it wrote nothing"
            raise WorkerError(f"{self.name} died (status {self._process.wait()}): {reason}")
        return json.loads(line)

    def ask(self, iterations: int) -> Answer:
        """Do so many iterations: {"steps", "seconds", ...}."""
        try:
            self._process.stdin.write(f"go {iterations}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died meanwhile: `answer` says why
        return self.answer()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def measure(
    title: str,
    commands: Mapping[str, Command],
    rounds: int,
    iterations: int | None = None,
    folders: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """All rounds: {"workers": what each said of itself, "rounds": [{name: answer}]}.

    title       of what is measured, for the progress on standard error
    commands    how each worker is started
    iterations  of each measurement; as many as take about CHUNK_SECONDS unless given
    folders     the checkout that a worker belongs to, where it is not this one

    The answers of a round stand in the order in which they were asked for.
    """
    workers: dict[str, Worker] = {}
    about: dict[str, Answer] = {}
    measured: list[Round] = []
    try:
        for name, command in commands.items():
            say(f"{title}: {name} warms up")
            workers[name] = Worker(name, command, (folders or {}).get(name, ROOT))
            about[name] = workers[name].answer()
            fitting = max(1, round(CHUNK_SECONDS / about[name]["iteration_seconds"]))
            about[name]["iterations"] = iterations or fitting
        names = list(commands)
        for number in range(rounds):
            say(f"{title}: round {number + 1} of {rounds}")
            turn = number % len(names)
            answers: Round = {}
            for name in names[turn:] + names[:turn]:
                time.sleep(PAUSE_SECONDS)
                answers[name] = workers[name].ask(about[name]["iterations"])
            measured.append(answers)
    finally:
        for worker in workers.values():
            worker.stop()
    return {"workers": about, "rounds": measured}


def rates(rounds: Sequence[Round], name: str) -> np.ndarray:
    """Steps per second of one worker, [rounds]."""
    return np.array([answers[name]["steps"] / answers[name]["seconds"] for answers in rounds])


def medians(rounds: Sequence[Round]) -> dict[str, float]:
    """The median rate of every worker."""
    return {name: float(median(rates(rounds, name))) for name in sorted(rounds[0])}


def ratio(ours: np.ndarray, theirs: np.ndarray, target: float | None) -> dict[str, Any]:
    """The ratio of two rates over the rounds, with a 95% bootstrap interval of its median."""
    ratios = ours / theirs
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    middle = float(np.median(ratios))
    return {
        "median": middle,
        "low": float(low),
        "high": float(high),
        "min": float(ratios.min()),
        "max": float(ratios.max()),
        "target": target,
        "reached": None if target is None else middle >= target,
    }


def rate_lines(found: Mapping[str, float], labels: Mapping[str, str]) -> list[str]:
    """Median rates, for a person."""
    return [f"    {labels[name]:26s}{found[name]:9,.0f}" for name in labels if name in found]


def ratio_lines(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """Ratios by name, as `ratio` gives them, for a person."""
    heads = f"{'median':>9s}{'95% interval':>17s}{'min to max':>17s}{'target':>9s}"
    lines = [f"  {'ratio of rates':28s}{heads}"]
    for name, one in found.items():
        target = "" if one["target"] is None else f"{one['target']:.2f}"
        interval = f"{one['low']:.2f} to {one['high']:.2f}"
        spread = f"{one['min']:.2f} to {one['max']:.2f}"
        row = f"    {name:26s}{one['median']:9.2f}{interval:>17s}{spread:>17s}{target:>9s}"
        lines.append(f"{row}  {verdict(one['reached'])}".rstrip())
    return lines


def verdict(reached: bool | None) -> str:
    """Whether a target was reached, in a word; nothing where there was none."""
    return {None: "", True: "reached", False: "not reached"}[reached]


def machine() -> dict[str, Any]:
    """What the rates depend on, without saying whose machine it is."""
    names = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],  # of the last minute; near 0 on a quiet machine
        "system": platform.system(),
        "python": platform.python_version(),
    }


def say(text: str) -> None:
    """Progress; standard output holds the results alone."""
    print(text, file=sys.stderr, flush=True)


def write(report: dict[str, Any], out: Path) -> None:
    """Keep every round."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"every round: {out}")


def status_of(name: str, python: Path, counts: Sequence[int | None], run: Callable[[], None]) -> int:
    """Run a benchmark; its exit status: 1 when a worker died, 2 for what cannot be begun.

    name    of the benchmark, for messages, and of its target in the Makefile behind `bench-`
    python  of the peers, which must be there
    counts  options that start at 1 where they are given
    """
    if any(count is not None and count < 1 for count in counts):
        say(f"{name}: --rounds and --iterations start at 1")
        return 2
    if not python.exists():
        say(f"{name}: {python.parent.parent.name} is missing: `make bench-{name}` installs it")
        return 2
    try:
        run()
    except WorkerError as error:
        say(f"{name}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        return 130
    return 0
