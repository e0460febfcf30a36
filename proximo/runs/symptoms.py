"""Signs of trouble in the metrics of a run, one line each, with what to try."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from proximo.runs.files import METRICS

Rows = Sequence[Mapping[str, float]]
"""The lines of `metrics.jsonl`."""


class Symptom(NamedTuple):
    """A sign of trouble.

    shows   the metrics of a run -> the sign, as the beginning of a line; empty if there is none
    advice  what to try
    """

    shows: Callable[[Rows], str]
    advice: str


LATE = 0.1  # the share of a run that tells how it stands at its end
AT_BOUNDS = 0.8  # a uniform policy is never there; a bang-bang one may be right
COLLAPSED = 0.05  # of the entropy, or of the standard deviation, at the start
EARLY = 0.5  # a policy may become sure in the second half of its training
FAR = 50.0  # nats of a whole response: no text of the reference is like it
FINISHED = 0.05  # of the responses


def no_episode(rows: Rows) -> str:
    known = any("rollout/ep_rew_mean" in row for row in rows)
    control = any("time/total_timesteps" in row for row in rows)
    return "no episode has ended, so there is no mean return" if control and not known else ""


def actions_at_bounds(rows: Rows) -> str:
    share = _late(rows, "rollout/actions_at_bounds")
    return f"{share:.0%} of the sampled actions are at their bounds" if share > AT_BOUNDS else ""


def entropy_collapsed(rows: Rows) -> str:
    for name, what in (("train/std", "standard deviation"), ("train/entropy", "entropy")):
        known = [(row["time/total_timesteps"], row[name]) for row in rows if name in row]
        if not known or (name == "train/entropy" and any("train/std" in row for row in rows)):
            continue  # of continuous actions the entropy has no zero
        first, (end, last) = known[0][1], known[-1]
        bound = COLLAPSED * first
        stays = next((at for k, (at, _) in enumerate(known) if all(x < bound for _, x in known[k:])), None)
        if len(known) > 1 and first > 0 and stays is not None and stays < EARLY * end:
            fell = f"{what} {last:.2g}, {first:.2g} at first"
            return f"the policy stopped exploring after {stays:,.0f} steps ({fell})"
    return ""


def responses_unfinished(rows: Rows) -> str:
    known = [row["val/finished"] for row in rows if "val/finished" in row]
    if not known or _late(rows, "val/finished") > FINISHED:
        return ""
    return "almost no response ends before the maximum response length"


def far_from_reference(rows: Rows) -> str:
    kl = _late(rows, "objective/kl")
    return f"the policy is far from the reference model (KL {kl:,.1f} nats per response)" if kl > FAR else ""


SYMPTOMS = (
    Symptom(
        no_episode,
        "train for longer, or limit episodes with gymnasium.wrappers.TimeLimit (for a registered environment "
        "--env-kwargs max_episode_steps=1000)",
    ),
    Symptom(
        actions_at_bounds,
        "try --initial-log-std -1, or wider bounds in the action space, unless full force is right",
    ),
    Symptom(
        entropy_collapsed,
        "if the return is not good yet, try --entropy-coefficient 0.01, or a lower --learning-rate",
    ),
    Symptom(
        responses_unfinished,
        "try a higher --response-length, --missing-eos-penalty 1, or a higher KL coefficient "
        "(lm ppo: --kl; lm grpo: --beta)",
    ),
    Symptom(
        far_from_reference,
        "try a higher KL coefficient (lm ppo: --kl; lm grpo: --beta), or a lower --learning-rate; read the "
        "samples in completions.jsonl",
    ),
)


def symptoms(rows: Rows) -> list[str]:
    """A line for each sign of trouble that the metrics of a run show."""
    found = [(symptom.shows(rows), symptom.advice) for symptom in SYMPTOMS]
    return [f"{sign}: {advice}" for sign, advice in found if sign]


def symptoms_of(run: Path) -> list[str]:
    """The same for the run in a folder; an empty list if its metrics cannot be read."""
    try:
        rows = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return symptoms([row for row in rows if isinstance(row, dict)])


def _late(rows: Rows, name: str) -> float:
    """The mean of a metric at the end of a run; 0 where it has none."""
    known = [row[name] for row in rows if name in row]
    late = known[-max(1, int(LATE * len(known))) :]
    return sum(late) / len(late) if late else 0.0
