"""What every logged metric is, and its curve in a run that learns and in one that breaks."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proximo.experiments.figures.rounded import rounded
from proximo.experiments.measured import ROOT
from proximo.runs.report.charts import short
from proximo.runs.report.hints import HINTS, VITAL

RUNS = {"healthy": Path("results/metrics/healthy.jsonl"), "broken": Path("results/metrics/broken.jsonl")}
STEPS = "time/total_timesteps"


class Meaning(NamedTuple):
    """What a metric is.

    formula  in the notation of the page
    place    file::name that computes it
    """

    formula: str
    place: str


UPDATE, LOSS, CORE = "proximo/learn/update.py", "proximo/learn/loss.py", "proximo/core"
ITERATION, ENTRY = "proximo/control/iteration.py", "proximo/control/files.py::entry"
ACTOR = "proximo/learn/actor_steps.py"
MEANINGS = {
    "rollout/ep_rew_mean": Meaning("mean of the last 100 episodes' sums of rewards", ENTRY),
    "rollout/ep_len_mean": Meaning("mean of their lengths", ENTRY),
    "rollout/actions_at_bounds": Meaning(
        "share of sampled numbers at a bound", f"{ITERATION}::actions_at_bounds"
    ),
    "train/approx_kl": Meaning(
        "mean of r - 1 - log r, over all minibatches before their step", f"{LOSS}::actor_objective"
    ),
    "train/approx_kl_max": Meaning("the same of the epoch where it is largest", f"{UPDATE}::largest_epoch"),
    "train/kl": Meaning("mean of KL(old || new), exact, after the update", f"{ACTOR}::mean_kl"),
    "train/clip_fraction": Meaning(
        "share of samples with r < 1 - epsilon or r > 1 + epsilon", f"{CORE}/surrogates.py::clip_fraction"
    ),
    "train/entropy": Meaning("mean of -sum of pi log pi, in nats", f"{LOSS}::actor_objective"),
    "train/std": Meaning("mean standard deviation of a Gaussian policy", f"{UPDATE}::spread"),
    "train/explained_variance": Meaning(
        "1 - Var(target - V) / Var(target), before the update", f"{CORE}/reduce.py::explained_variance"
    ),
    "train/value_loss": Meaning("mean of (V - target)^2 / 2, in units of scaled reward", f"{LOSS}::loss"),
    "train/policy_gradient_loss": Meaning(
        "minus the mean objective, such as eq. 7", f"{LOSS}::actor_objective"
    ),
    "train/loss": Meaning("eq. 9 with its sign inverted", f"{LOSS}::loss"),
    "train/grad_norm": Meaning(
        "norm of the gradient of all parameters, before it is bounded", "proximo/learn/descend.py::descend"
    ),
    "train/actor_grad_norm": Meaning("the same of the actor's own step", ACTOR),
    "train/learning_rate": Meaning("Adam's, as annealed or adapted", f"{UPDATE}::current_learning_rate"),
    "train/actor_learning_rate": Meaning("of the actor's own step, as adapted", ACTOR),
    "train/clip_range": Meaning("epsilon, as annealed", f"{LOSS}::clip_range"),
    "train/kl_stopped": Meaning("1 if target_kl ended the update", f"{UPDATE}::minibatch_step"),
    "train/kl_coefficient": Meaning("beta of eq. 8", f"{UPDATE}::adapt_objective"),
    "train/updates": Meaning("minibatch steps taken", f"{UPDATE}::mean_over_updates"),
    "train/parameter_norm": Meaning("norm of all parameters", f"{UPDATE}::update"),
}


def logged(kind: str) -> dict[str, np.ndarray]:
    """Every metric of a committed run, an entry for each update; NaN where it was not logged."""
    rows = [json.loads(line) for line in (ROOT / RUNS[kind]).read_text().splitlines()]
    names = {name for row in rows for name in row}
    return {name: np.array([row.get(name, np.nan) for row in rows], float) for name in names}


def metrics() -> dict[str, Any]:
    """The numbers of the figure: curves of both runs, of every metric that they have."""
    found = {kind: logged(kind) for kind in RUNS}
    shared = [name for name in MEANINGS if all(name in run for run in found.values())]
    return {
        "steps": {kind: rounded(run[STEPS]) for kind, run in found.items()},
        "metrics": {
            name: {
                "hint": VITAL[name].hint if name in VITAL else HINTS[name],
                "limit": VITAL[name].limit if name in VITAL else None,
                **{kind: rounded(run[name]) for kind, run in found.items()},
            }
            for name in shared
        },
    }


def median(values: np.ndarray) -> str:
    """Of the second half of a run."""
    return short(float(np.nanmedian(values[len(values) // 2 :])))


def table() -> str:
    """The table of docs/metrics.md."""
    healthy, broken = logged("healthy"), logged("broken")
    rows = ["| metric | formula | computed by | healthy | broken |", "|---|---|---|---:|---:|"]
    for name, (formula, place) in MEANINGS.items():
        file = place.partition("::")[0]
        code = f"[`{place.partition('::')[2] or Path(file).stem}`](../{file})"
        numbers = [median(run[name]) if name in run else "" for run in (healthy, broken)]
        told = formula.replace("||", r"\|\|")
        rows.append(f"| `{name}` | {told} | {code} | {' | '.join(numbers)} |")
    return "\n".join(rows)
