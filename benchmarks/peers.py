"""How fast Proximo trains next to Stable-Baselines3 and SBX, and next to the environments alone.

    python -m benchmarks.peers        (`make bench-peers` also installs the peers)

Every library is a process of its own that has compiled and warmed up its training and then waits. In every
round each trains a few iterations, one at a time and in rotating order, so that a noisy machine hits all
alike. What counts is the ratio of two rates of the same round; the rates themselves belong to the machine.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro

from benchmarks import ENV, HIDDEN, OPTIONS

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / "bin" / "python"
SHAPES = ((1, 2048), (8, 256))  # num_envs x horizon
CHUNK_SECONDS = 3.0  # about what a worker is asked for in one round
PAUSE_SECONDS = 0.3  # OpenMP's threads spin for up to 0.2 s after their last work

# name -> (python, module, further words). SB3 runs twice: gradients of 64 samples are small work, and
# which number of threads suits it best depends on the machine.
WORKERS: dict[str, tuple[Path, str, list[str]]] = {
    "sb3": (PEERS, "worker_sb3", []),
    "sb3-1-thread": (PEERS, "worker_sb3", ["1"]),
    "sbx": (PEERS, "worker_sbx", []),
    "proximo": (Path(sys.executable), "worker_proximo", []),
    "floor": (Path(sys.executable), "worker_proximo", ["floor"]),
}
LABELS = {"sb3": "SB3, torch's own threads", "sb3-1-thread": "SB3, one thread", "sbx": "SBX"}
LABELS |= {"proximo": "Proximo", "floor": "environments alone"}
TARGETS: dict[tuple[int, int], dict[str, float]] = {  # Proximo's rate over another's
    (1, 2048): {"sb3": 7.0, "floor": 0.50},
    (8, 256): {"sb3": 5.5, "sbx": 4.0, "floor": 0.60},
}

Answer = dict[str, Any]
Round = dict[str, Answer]


@dataclass(frozen=True)
class Options:
    """Measure Proximo, Stable-Baselines3, SBX and the environments alone, interleaved."""

    rounds: int = 7
    """How often each is measured."""
    iterations: int | None = None
    """Iterations of 2,048 steps in each measurement; as many as take about 3 seconds unless said."""
    out: Path = Path("results/speed/peers.json")
    """Where the raw numbers go."""


class WorkerError(Exception):
    """A worker died; the message is one line."""


class Worker:
    """One library in its own process, warmed up and blocked on its standard input unless asked."""

    def __init__(self, name: str, shape: tuple[int, int]) -> None:
        python, module, words = WORKERS[name]
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`stop` closes it)
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", *map(str, shape), *words],
            cwd=ROOT,
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
        """Train so many iterations: {"steps", "seconds"}."""
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


def measure(shape: tuple[int, int], options: Options) -> dict[str, Any]:
    """All rounds of one shape: {"workers": what each said of itself, "rounds": [{name: answer}]}.

    The answers of a round stand in the order in which they were asked for.
    """
    workers: dict[str, Worker] = {}
    about: dict[str, Answer] = {}
    rounds: list[Round] = []
    try:
        for name in WORKERS:
            say(f"{words(shape)}: {LABELS[name]} warms up")
            workers[name] = Worker(name, shape)
            about[name] = workers[name].answer()
            fitting = max(1, round(CHUNK_SECONDS / about[name]["iteration_seconds"]))
            about[name]["iterations"] = options.iterations or fitting
        names = list(WORKERS)
        for number in range(options.rounds):
            say(f"{words(shape)}: round {number + 1} of {options.rounds}")
            turn = number % len(names)
            answers: Round = {}
            for name in names[turn:] + names[:turn]:
                time.sleep(PAUSE_SECONDS)
                answers[name] = workers[name].ask(about[name]["iterations"])
            rounds.append(answers)
    finally:
        for worker in workers.values():
            worker.stop()
    return {"workers": about, "rounds": rounds}


def rates(rounds: list[Round], name: str) -> np.ndarray:
    """Environment steps per second of one worker, [rounds]."""
    return np.array([answers[name]["steps"] / answers[name]["seconds"] for answers in rounds])


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


def summary(shape: tuple[int, int], rounds: list[Round]) -> dict[str, Any]:
    """Median rates, and Proximo's ratio to each other library at its better setting."""
    medians = {name: float(median(rates(rounds, name))) for name in WORKERS}
    better = max(("sb3", "sb3-1-thread"), key=medians.__getitem__)
    ours, targets = rates(rounds, "proximo"), TARGETS[shape]
    peers = {"sb3": better, "sbx": "sbx", "floor": "floor"}
    return {
        "steps_per_second": medians,
        "sb3_setting": better,
        "ratios": {
            f"proximo/{peer}": ratio(ours, rates(rounds, name), targets.get(peer))
            for peer, name in peers.items()
        },
    }


def table(shape: tuple[int, int], result: dict[str, Any], rounds: int) -> str:
    """What was found, for a person."""
    lines = [f"{ENV}, {words(shape)}, {rounds} rounds", "  median environment steps per second, here"]
    for name, rate in result["steps_per_second"].items():
        lines.append(f"    {LABELS[name]:26s}{rate:9,.0f}")
    heads = f"{'median':>9s}{'95% interval':>17s}{'min to max':>17s}{'target':>9s}"
    lines.append(f"  {'ratio of rates':28s}{heads}")
    for name, found in result["ratios"].items():
        target = "" if found["target"] is None else f"{found['target']:.2f}"
        verdict = {None: "", True: "reached", False: "not reached"}[found["reached"]]
        interval = f"{found['low']:.2f} to {found['high']:.2f}"
        spread = f"{found['min']:.2f} to {found['max']:.2f}"
        row = f"    {name:26s}{found['median']:9.2f}{interval:>17s}{spread:>17s}{target:>9s}  {verdict}"
        lines.append(row.rstrip())
    lines.append(f"  SB3 counts at its faster setting: {LABELS[result['sb3_setting']]}")
    return "\n".join(lines)


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


def words(shape: tuple[int, int]) -> str:
    """The shape as a person writes it."""
    return f"{shape[0]} x {shape[1]}"


def say(text: str) -> None:
    """Progress; standard output holds the results alone."""
    print(text, file=sys.stderr, flush=True)


def run(options: Options) -> None:
    """Measure every shape, print its table, write everything to `options.out`."""
    report: dict[str, Any] = {
        "environment": ENV,
        "options": {**OPTIONS, "hidden": HIDDEN, "activation": "tanh"},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "shapes": [],
    }
    for shape in SHAPES:
        measured = measure(shape, options)
        result = summary(shape, measured["rounds"])
        report["shapes"].append({"num_envs": shape[0], "horizon": shape[1], **result, **measured})
        print(table(shape, result, options.rounds), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"every round: {options.out}")


def main() -> int:
    """Returns the exit status: 1 when a worker died, 2 for unusable arguments."""
    options = tyro.cli(Options, prog="python -m benchmarks.peers", description=__doc__)
    if options.rounds < 1 or (options.iterations is not None and options.iterations < 1):
        say("peers: --rounds and --iterations start at 1")
        return 2
    if not PEERS.exists():
        say("peers: .venv-peers is missing: `make bench-peers` installs it")
        return 2
    try:
        run(options)
    except WorkerError as error:
        say(f"peers: {error}")
        return 1
    except KeyboardInterrupt:
        say("peers: interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
