"""The runs of `docs/live/ppo.js` that docs/cartpole.md tells of, in Chromium as on the page: minutes.

python -m benchmarks.cartpole_runs [--out results/cartpole/runs.json]

Another browser may have other digits in its exponential function, and after some thousand gradient steps
another run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from playwright.sync_api import sync_playwright

from benchmarks.cartpole_picture import LIVE, ROOT, SHOWN, chromium

STEPS = 61_000
SEEDS, MANY_SEEDS = (0, 1), tuple(range(20))
SETTINGS: dict[str, dict[str, Any]] = {  # what differs from the recipe, which is PPO.CARTPOLE
    "recipe": {},
    "broken": {"learning_rate": 5e-3, "objective": "unclipped"},
    "epsilon 0.05": {"epsilon": 0.05},
    "epsilon 0.5": {"epsilon": 0.5},
    "1 epoch": {"epochs": 1},
    "30 epochs": {"epochs": 30},
    "30 epochs, no clip": {"epochs": 30, "objective": "unclipped"},
    "lambda 0": {"gae_lambda": 0},
    "gamma 0.8": {"gamma": 0.8},
}
TRAIN = """([changed, seed, steps]) => {
    const options = { ...PPO.CARTPOLE, ...changed };
    const learner = PPO.new_learner(options, seed);
    const found = { seed, solved: null, steps: [], mean: [], recent: [], kl: [], outside: [] };
    const digits = (x) => Number(x.toPrecision(5));
    while (learner.steps < steps) {
        let seen = null;
        const remaining = 1 - learner.steps / options.steps;
        const experience = PPO.collect(learner, options);
        for (const { epoch, batch } of PPO.update(learner, experience, options, remaining)) {
            if (epoch === options.epochs) seen = Measures.of(learner.policy, batch, options.epsilon);
        }
        found.steps.push(learner.steps);
        found.mean.push(digits(PPO.mean(learner.returns.slice(-100))));
        found.recent.push(digits(PPO.mean(learner.returns.slice(-10))));
        found.kl.push(digits(seen.kl));
        found.outside.push(digits(seen.clip_fraction));
        if (learner.returns.length >= 100 && found.mean.at(-1) >= 475) found.solved ??= learner.steps;
    }
    return found;
}"""
Runs = Mapping[str, Sequence[Mapping[str, Any]]]
FILE = ROOT / "results" / "cartpole" / "runs.json"


@dataclass(frozen=True)
class Options:
    """Train what docs/cartpole.md tells of."""

    out: Path = FILE
    """Where the runs go."""


def trained() -> tuple[str, Runs]:
    """The version of the browser, and every run of every setting. Raises UserError without Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        for script in ("ppo.js", "measures.js"):
            page.add_script_tag(path=LIVE / script)
        found = {
            name: [
                page.evaluate(TRAIN, [changed, seed, STEPS])
                for seed in (MANY_SEEDS if name == "recipe" else SEEDS)
            ]
            for name, changed in SETTINGS.items()
        }
        version = browser.version
        browser.close()
    return version, found


def sentences(runs: Runs) -> list[str]:
    """What docs/cartpole.md says with numbers."""

    def ends(name: str) -> list[int]:
        return sorted(round(run["mean"][-1]) for run in runs[name][: len(SEEDS)])

    def largest(name: str) -> float:
        return max(max(run["kl"]) for run in runs[name][: len(SEEDS)])

    def both(name: str, word: str = "and") -> str:
        low, high = ends(name)
        return f"{low} {word} {high}"

    recipe, broken = runs["recipe"][0], runs["broken"][0]
    late = [run for run in runs["recipe"] if run["solved"] is None or run["solved"] > 60_000]
    many = len(MANY_SEEDS)
    solved = f"Of seeds 0 to {many - 1} it solves CartPole within 60,000 steps on {many - len(late)}"
    solved += "".join(f"; seed {run['seed']} needs {run['solved'] or STEPS:,}" for run in late)
    outside = [round(100 * run["outside"][SHOWN - 1]) for run in (broken, recipe)]
    fall, updates = deepest_fall(broken["recent"])
    return [
        f"CartPole is solved after {recipe['solved']:,} steps",
        f"no update moves the policy by more than {max(recipe['kl']):.3f} nats",
        f"an update moves it by up to {max(broken['kl']):.1f} nats",
        f"the ratios of {outside[0]} % of the samples lie outside 0.8 to 1.2, against {outside[1]} %",
        f"the mean of ten episodes falls by {round(fall)} within {updates} updates",
        f"At 0.05 no update moved the policy by more than {largest('epsilon 0.05'):.3f} nats",
        f"at 0.5 up to {largest('epsilon 0.5'):.2f}",
        f"{both('epsilon 0.05', 'to')} and {both('epsilon 0.5', 'to')}",
        f"With one epoch a run is slow, {both('1 epoch')} after 61,000 steps",
        f"it ends at {both('30 epochs')}",
        f"without it the KL grows to {largest('30 epochs, no clip'):.1f} nats",
        f"With λ 0 the policy learns from the critic's errors: {both('lambda 0')}",
        f"0.8 it sees only a few steps ahead: {both('gamma 0.8')}",
        solved,
    ]


def deepest_fall(values: Sequence[float]) -> tuple[float, int]:
    """How far a curve falls below an earlier value at most, and within how many updates."""
    pairs = [(a - b, j - i) for i, a in enumerate(values) for j, b in enumerate(values[i:], i)]
    return max(pairs, key=lambda pair: (pair[0], -pair[1]))


def main() -> None:
    """Train, and keep the runs."""
    out = tyro.cli(Options).out
    version, runs = trained()
    out.parent.mkdir(parents=True, exist_ok=True)
    command = "python -m benchmarks.cartpole_runs"
    out.write_text(json.dumps({"command": command, "chromium": version, "runs": runs}) + "\n")
    print("\n".join(sentences(runs)))


if __name__ == "__main__":
    main()
