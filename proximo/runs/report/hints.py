"""What to look for in each metric, in a sentence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from proximo.runs.report.charts import short
from proximo.runs.report.curves import series_of
from proximo.runs.report.read import RunData

# A family's heading; families that are not named here come after these, under their own name.
FAMILIES = {
    "rollout": "Rollouts",
    "eval": "Evaluations",
    "train": "Updates",
    "time": "Time",
}
LANGUAGE_FAMILIES = {
    "objective": "Objective",
    "rewards": "Rewards",
    "policy": "Policy",
    "loss": "Losses",
    "val": "Values and responses",
}


class KeyMetric(NamedTuple):
    """A metric shown first and large.

    limit  the level above which it is too large, if there is one
    """

    title: str
    hint: str
    limit: float | None


STEPS_TOO_LARGE = "lower learning_rate or epochs, or set target_kl"
VITAL = {
    "train/clip_fraction": KeyMetric(
        "Clip fraction",
        "The share of samples whose ratio is outside the clip range. If it stays above 0.3, the policy moves "
        f"faster than its data allow; {STEPS_TOO_LARGE}. If it is near 0 from the start, the steps are "
        f"too small.",
        0.3,
    ),
    "train/approx_kl": KeyMetric(
        "KL divergence",
        "How far the policy moves from the one that collected the data (approx_kl, in nats). If it stays "
        f"above 0.02, the steps are too large; {STEPS_TOO_LARGE}.",
        0.02,
    ),
    "train/kl": KeyMetric(
        "Exact KL divergence",
        "How far a whole update has moved the policy, in nats. It should keep to the bound or target that "
        "the options set; a jump is a step that went too far.",
        None,
    ),
}
HINTS = {
    "rollout/ep_rew_mean": "Mean return of the last 100 training episodes: it should rise, then stay.",
    "rollout/ep_len_mean": "Mean length of those episodes, in steps.",
    "rollout/success_rate": "The share of those episodes that the environment calls a success.",
    "eval/mean_reward": "Mean return of an evaluation; the best model is the one where it is highest.",
    "eval/mean_ep_length": "Mean length of its episodes, in steps.",
    "eval/success_rate": "The share of its episodes that the environment calls a success.",
    "rollout/actions_at_bounds": "The share of sampled actions at their bounds; near 1 the policy uses "
    "nothing else.",
    "rollout/restarts": "How often a failed environment was restarted: it should stay at 0.",
    "train/entropy": "It should fall slowly. If it is near its minimum early on, the policy has stopped "
    "exploring.",
    "train/std": "Width of the Gaussian actions (1: half of their range, where they are scaled): it should "
    "shrink slowly while something is learned.",
    "train/explained_variance": "Near 1 the critic predicts the returns well; below 0 a constant would "
    "be better.",
    "train/value_loss": "The critic's error; it may rise while the returns rise.",
    "train/policy_gradient_loss": "Minus the objective. It is normally small and noisy.",
    "train/loss": "The sum that is minimised; it says little by itself.",
    "train/grad_norm": "Before clipping to max_grad_norm. Spikes are a sign of bad updates.",
    "train/actor_grad_norm": "Of the actor's own gradient. Spikes are a sign of bad updates.",
    "train/approx_kl_max": "approx_kl of the epoch where it is largest, usually the last: how far an update "
    "went. approx_kl itself is the mean over all epochs.",
    "train/learning_rate": "As annealed or adapted.",
    "train/actor_learning_rate": "As adapted to the target KL.",
    "train/clip_range": "Epsilon, as annealed.",
    "train/kl_stopped": "Above 0 if target_kl ended an update early. If it is always 1, the steps are "
    "too large.",
    "train/kl_coefficient": "KL coefficient, per nat. If it keeps growing, the steps are too large.",
    "train/updates": "Minibatch steps in each update; fewer if target_kl ended it early.",
    "train/parameter_norm": "It should grow slowly; a jump is a sign of a bad update.",
    "train/line_search_accepted": "1 if TRPO's line search found a step. If it is often 0, max_kl is "
    "too large.",
    "train/line_search_backtracks": "How often that search had to halve the step.",
    "train/fitness_mean": "Mean return of a generation's actors: it should rise.",
    "train/fitness_best": "Return of a generation's best actor.",
    "train/parameter_std": "Spread of the actors: it should shrink slowly; near 0 the search is over.",
    "time/fps": "Environment steps per second since the start; other work on the machine lowers it.",
    "time/time_elapsed": "Seconds since the start.",
    "time/time_evaluating": "Seconds of these spent on evaluations, which the speed excludes.",
    "time/iterations": "Rollouts, each with its update.",
}


def family(metric: str) -> str:
    """`train` of `train/loss`; `other` where there is none."""
    return metric.partition("/")[0] if "/" in metric else "other"


def families(metrics: Sequence[str]) -> dict[str, list[str]]:
    """The metrics by family, the known families first."""
    found = sorted({family(metric) for metric in metrics} - FAMILIES.keys())
    order = [*FAMILIES, *found]
    grouped = {name: [metric for metric in metrics if family(metric) == name] for name in order}
    return {name: members for name, members in grouped.items() if members}


def summarise(metric: str, runs: Sequence[RunData]) -> str:
    """What a large chart shows, in numbers."""
    values = np.concatenate([series.values for series in series_of(runs, metric)])
    median, limit = f"median {short(float(np.median(values)))}", VITAL[metric].limit
    if limit is None:
        return median
    share = float(np.mean(values > limit))
    if share == 0:
        return f"{median}, never above {limit:g}"
    return f"{median}, above {limit:g} in {max(share, 0.01):.0%} of the updates"
