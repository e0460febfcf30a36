"""What to look for in each metric, in a plain sentence."""

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

    limit  where it becomes too much, if there is such a level
    """

    title: str
    hint: str
    limit: float | None


STEPS_TOO_LARGE = "lower learning_rate or epochs, or set target_kl"
VITAL = {
    "train/clip_fraction": KeyMetric(
        "Clip fraction",
        "The share of samples whose ratio has left the clip range. Above 0.3 for long: the policy moves "
        f"faster than its data allow; {STEPS_TOO_LARGE}. Near 0 from the start: the steps are too small.",
        0.3,
    ),
    "train/approx_kl": KeyMetric(
        "KL divergence",
        "How far the policy moves from the one that collected the data (approx_kl, in nats). Above 0.02 "
        f"for long: the steps are too large; {STEPS_TOO_LARGE}.",
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
    "rollout/actions_at_bounds": "The share of sampled actions at their bounds; near 1 it knows no other.",
    "rollout/restarts": "How often a failed environment was restarted: it should stay at 0.",
    "train/entropy": "It should fall slowly; near its lowest early on, the policy has stopped exploring.",
    "train/std": "Width of the Gaussian actions (1: half of their range, where they are scaled): it should "
    "shrink slowly while something is learned.",
    "train/explained_variance": "Near 1 the critic foresees the returns; below 0 a constant does better.",
    "train/value_loss": "The critic's error; it may rise while the returns rise.",
    "train/policy_gradient_loss": "Minus the objective: small and noisy is as it should be.",
    "train/loss": "The sum that is minimised; it says little by itself.",
    "train/grad_norm": "Before it is cut at max_grad_norm; spikes come with broken updates.",
    "train/actor_grad_norm": "Of the actor's own gradient; spikes come with broken updates.",
    "train/learning_rate": "As annealed or adapted.",
    "train/actor_learning_rate": "As it follows the target KL.",
    "train/clip_range": "Epsilon, as annealed.",
    "train/kl_stopped": "Above 0 where target_kl ended an update early; always 1: the steps are too large.",
    "train/kl_coefficient": "KL coefficient, per nat; where it grows without end, the steps are too large.",
    "train/updates": "Minibatch steps of each update; fewer where target_kl ended it.",
    "train/parameter_norm": "It grows slowly; a jump is a broken update.",
    "train/line_search_accepted": "1 where TRPO's line search found a step; often 0: max_kl is too large.",
    "train/line_search_backtracks": "How often that search had to halve the step.",
    "train/fitness_mean": "Mean return of a generation's actors: it should rise.",
    "train/fitness_best": "Return of a generation's best actor.",
    "train/parameter_std": "Spread of the actors: it should shrink slowly; near 0 the search is over.",
    "time/fps": "Environment steps per second since the start; other work on the machine lowers it.",
    "time/time_elapsed": "Seconds since the start.",
    "time/time_evaluating": "Seconds of these in evaluations, which the speed does not count.",
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
