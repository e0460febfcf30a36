"""PPO and its relatives in measured columns: what `docs/algorithms.md` shows."""

from typing import NamedTuple

from proximo.experiments.claims import with_interval
from proximo.experiments.measured import (
    FIGURE_3,
    PPO,
    TABLE_1,
    config_of,
    gradient_steps,
    mean_score,
    races,
    raw,
    update_cost,
)


class Method(NamedTuple):
    """What a row says of a method besides its numbers.

    setting  whose runs of the grid are meant
    bound    what keeps an update near the old policy, as an equation
    timed    whether `benchmarks.grid` has measured its update
    """

    label: str
    grid: str
    setting: str
    bound: str
    timed: bool = False


CLIPPED = r"$r$ counts only between $1 - \epsilon$ and $1 + \epsilon$"
METHODS = (
    Method("PPO, clip", FIGURE_3, PPO, CLIPPED),
    Method("TRPO", FIGURE_3, "trpo", r"$\mathrm{KL}[\pi_{old}, \pi] \le \delta$", timed=True),
    Method(
        "vanilla policy gradient",
        FIGURE_3,
        "vanilla-policy-gradient",
        r"one step, its rate follows $\mathrm{KL} \approx d$",
        timed=True,
    ),
    Method("A2C", FIGURE_3, "a2c", "none: one step on 80 samples"),
    Method(
        "A2C + trust region",
        FIGURE_3,
        "a2c-trust-region",
        r"$k^T g \le \delta$ in each state, $k = \nabla \mathrm{KL}[\pi_{avg}, \pi]$",
    ),
    Method("CEM", FIGURE_3, "cem", "none: no gradient"),
)
OBJECTIVES = (
    Method("clip, 0.2", TABLE_1, PPO, CLIPPED),
    Method(
        "adaptive KL penalty, 0.01",
        TABLE_1,
        "adaptive-kl-0.01",
        r"$- \beta \, \mathrm{KL}$, $\beta$ adjusted to $\mathrm{KL} \approx d$",
    ),
    Method("fixed KL penalty, 3", TABLE_1, "kl-3", r"$- \beta \, \mathrm{KL}$"),
    Method("none", TABLE_1, "unclipped", "none"),
)
LANGUAGE = ("SFT", "DPO, beta 0.3", "PPO, beta 0.5", "GRPO, beta 0.5", "PPO, beta 0.1", "PPO, beta 0.002")
"""The runs of the language example; its file says what each reached."""


def methods() -> str:
    """What figure 3's methods do, as a table of Markdown."""
    columns = "method", "what bounds an update", "times a sample is used", "gradient steps of the actor"
    lines = [_line(*columns), "|---|---|---:|---:|"]
    for method in METHODS:
        config = config_of(method.grid, method.setting)
        joint = config.population is None and config.update.actor_step.joint
        used = str(config.update.epochs if joint else 1)
        steps = f"{config.steps * gradient_steps(config):,.0f}" if config.population is None else "none"
        lines.append(_line(method.label, method.bound, used, steps))
    return "\n".join(lines)


def reached() -> str:
    """What figure 3's methods cost and reach, the same."""
    lines = [
        _line("method", "time of an update", "environment steps to A2C's score", "score"),
        "|---|---:|---:|---:|",
    ]
    for method in METHODS:
        found = with_interval(mean_score(method.grid, method.setting))
        lines.append(_line(method.label, _cost(method), to_a2c(method), found))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cost(method: Method) -> str:
    if method.timed:
        return with_interval(update_cost(method.setting))
    return "1" if method.setting == PPO else "-"


def to_a2c(method: Method) -> str:
    """Environment steps to A2C's final score over A2C's: lowest to highest, and how many tasks reach it."""
    if method.setting == "a2c":
        return "1"
    found = races("a2c", ours=method.setting)
    ratios = [race.ours / race.theirs for race in found if race.ours is not None]
    if not ratios:
        return f"never, 0 of {len(found)} tasks"
    span = " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))))
    return f"{span}, {len(ratios)} of {len(found)} tasks"


def objectives() -> str:
    """PPO's objectives in table 1, the same."""
    lines = [_line("objective", "what bounds an update", "score"), "|---|---|---:|"]
    for one in OBJECTIVES:
        lines.append(_line(one.label, one.bound, with_interval(mean_score(one.grid, one.setting))))
    return "\n".join(lines)


def language() -> str:
    """Methods for language models on the example with a known score, the same."""
    told = {row["name"]: row["value"] for row in raw("language/sentiment.json")}
    columns = "method", "gold score, with its standard error", "KL to SFT, nats", "distinct answers"
    lines = [_line(*columns), "|---|---:|---:|---:|"]
    for name in LANGUAGE:
        gold, error = told[f"{name}: gold score"], told[f"{name}: its standard error"]
        kl, distinct = told.get(f"{name}: KL to SFT, nats", 0.0), told[f"{name}: share of distinct responses"]
        lines.append(_line(name, f"{gold:.2f} +- {error:.1g}", f"{kl:.1f}", f"{distinct:.1%}"))
    return "\n".join(lines)
