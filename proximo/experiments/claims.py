"""What others claim of PPO in numbers, answered with numbers of committed runs.

`docs/claims.toml` has a row for each claim; it names a function of this module, whose numbers its sentence
shows. `table` makes of the rows what `docs/claims.md` shows; a test compares them.
"""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from proximo.control.config import preset
from proximo.core import Clip, Unclipped, diagonal_gaussian_kl, gae
from proximo.experiments.figures.advantages import advantages
from proximo.experiments.figures.gradient import LOGITS, REWARDS
from proximo.experiments.measured import (
    FIGURE_3,
    PPO,
    ROOT,
    TABLE_1,
    config_of,
    environments,
    gradient_steps,
    mean_score,
    normalised,
    races,
    raw,
    runs,
    score,
    share_to,
    update_cost,
)
from proximo.learn.actor_steps import TrustRegion
from proximo.runs import statistics

Numbers = dict[str, Any]

FILE = ROOT / "docs" / "claims.toml"
VERDICTS = (
    "holds",
    "does not hold here",
    "smaller",
    "differs by task",
    "not measured yet",
    "not ours to measure",
)
PENDING = VERDICTS[4:]  # without a number of ours
ADAPTIVE = ("adaptive-kl-0.003", "adaptive-kl-0.01", "adaptive-kl-0.03")
LOOSE_PENALTIES = ("kl-0.3", "kl-1", "kl-3")
CLIPS = ("clip-0.1", "clip-0.2", "clip-0.3")
HALF, MOST = 0.5, 0.8  # of the way from the random policy to the best run; of a method's own score
LAST_ITERATIONS = 10


# ---- how fast


def steps_to_a2c() -> Numbers:
    """Environment and gradient steps of PPO to A2C's final score, over those of A2C."""
    return _ratios("a2c")


def steps_to_trpo() -> Numbers:
    """The same to TRPO's final score."""
    return _ratios("trpo")


def steps_to_policy_gradient() -> Numbers:
    """The same to the final score of the vanilla policy gradient, in steps of the actor."""
    return _ratios("vanilla-policy-gradient")


def _ratios(other: str) -> Numbers:
    found = races(other)
    steps = [race.ours / race.theirs for race in found if race.ours is not None]
    ours, theirs = (gradient_steps(config_of(FIGURE_3, setting)) for setting in (PPO, other))
    gradients = [ratio * ours / theirs for ratio in steps]
    return {
        "tasks": len(found),
        "reached": len(steps),
        "never": len(found) - len(steps),
        "fewest": min(steps),
        "most": max(steps),
        "times_least": 1 / max(steps),
        "times_most": 1 / min(steps),
        "gradients_fewest": min(gradients),
        "gradients_most": max(gradients),
        "per_million": 1e6 * ours,
        "theirs_per_million": 1e6 * theirs,
    }


def cost_of_trpo() -> Numbers:
    """TRPO's update over PPO's, in seconds, and what PPO saves of it."""
    cost = update_cost("trpo")
    return {**_interval(cost), "saved": 1 - 1 / cost.value}


def cost_of_policy_gradient() -> Numbers:
    """The vanilla policy gradient's update over PPO's, in seconds."""
    return _interval(update_cost("vanilla-policy-gradient"))


def steps_to_most() -> Numbers:
    """Environment steps to 80% of the way from the random policy to PPO's final score; CartPole's to 475."""
    needed = {}
    for env in environments(FIGURE_3):
        zero = raw(f"{FIGURE_3}/{env}/random.json")["score"]
        level = zero + MOST * (score(FIGURE_3, PPO, env) - zero)
        share = share_to(FIGURE_3, PPO, env, level)
        assert share is not None, env
        needed[env] = share * config_of(FIGURE_3, PPO).steps
    solved = [run["steps"] for run in raw("speed/startup.json")["raw"]["cold"]]
    first, last = min(needed, key=lambda env: needed[env]), max(needed, key=lambda env: needed[env])
    return {
        "fewest": needed[first],
        "first": first,
        "most": needed[last],
        "last": last,
        "cartpole_fewest": min(solved),
        "cartpole_most": max(solved),
    }


# ---- how good


def clipping() -> Numbers:
    """Table 1's scores of the three clip ranges."""
    return _scores(TABLE_1, *CLIPS)


def without_clipping() -> Numbers:
    """Table 1's score without clip or penalty, and PPO's."""
    return _scores(TABLE_1, "unclipped", PPO)


def adaptive_penalties() -> Numbers:
    """Table 1's scores of the adaptive KL penalty, and PPO's."""
    return _scores(TABLE_1, *ADAPTIVE, PPO)


def score_of_ppo() -> Numbers:
    """PPO's score in table 1."""
    return _scores(TABLE_1, PPO)


def beside_trpo() -> Numbers:
    """PPO and TRPO on figure 3's scale, how likely a run of TRPO wins, and where its mean is ahead."""
    ahead = [
        env for env in environments(FIGURE_3) if score(FIGURE_3, "trpo", env) > score(FIGURE_3, PPO, env)
    ]
    better = statistics.improvement(normalised(FIGURE_3, "trpo"), normalised(FIGURE_3, PPO))
    names = ", ".join(env.removesuffix("-v5") for env in ahead)
    return {**_scores(FIGURE_3, PPO, "trpo"), **_interval(better), "ahead": len(ahead), "names": names}


def among_six() -> Numbers:
    """On how many tasks PPO's mean is the highest of figure 3's six methods, and its interquartile mean."""
    methods = list(runs(FIGURE_3))
    first = [max(methods, key=lambda one: score(FIGURE_3, one, env)) for env in environments(FIGURE_3)]
    middle = {one: statistics.interquartile_mean(normalised(FIGURE_3, one)) for one in methods}
    place = sorted(methods, key=lambda one: -middle[one].value).index(PPO) + 1
    won = {"won": first.count(PPO), "tasks": len(first), "place": place}
    return {**won, **_interval(middle[PPO]), "trpo": middle["trpo"].value}


def good_runs() -> Numbers:
    """Share of runs above half of the way from the random policy to the best run."""

    def share(grid: str, setting: str) -> float:
        return float(np.mean(np.concatenate(normalised(grid, setting)) > HALF))

    ppo, gradient = share(FIGURE_3, PPO), share(FIGURE_3, "vanilla-policy-gradient")
    unclipped = {"clipped": share(TABLE_1, PPO), "unclipped": share(TABLE_1, "unclipped")}
    return {"ppo": ppo, "gradient": gradient, "a2c": share(FIGURE_3, "a2c")} | unclipped


def clips_and_penalties() -> Numbers:
    """The range of table 1's scores with clips of 0.1 to 0.3 and penalties of 0.3 to 3, and that of 10."""
    means = [mean_score(TABLE_1, setting).value for setting in (*CLIPS, *LOOSE_PENALTIES)]
    return {"lowest": min(means), "highest": max(means), "strong": mean_score(TABLE_1, "kl-10").value}


def changes_that_hurt() -> Numbers:
    """Scores of the search for a recipe: its start, another gamma, and the paper's initial log std."""
    return _scores("recipe", "start", "gamma-0.98", "log-std-0")


def lambdas() -> Numbers:
    """Scores of the search for a recipe with lambda 0.95 and 0.9."""
    return _scores("recipe", "start", "lambda-0.9")


# ---- what follows from definitions


def paper_preset() -> Numbers:
    """The options of the preset `paper`."""
    config = preset("paper", "Hopper-v5")
    assert isinstance(config.update.objective, Clip)
    return {
        "steps": config.steps,
        "lam": config.update.gae_lambda,
        "epsilon": config.update.objective.epsilon,
        "entropy": config.update.entropy_coefficient,
        "layers": len(config.network.hidden),
        "width": config.network.hidden[0],
        "activation": config.network.activation,
    }


def trpo_preset() -> Numbers:
    """The options of the preset `trpo`."""
    step = preset("trpo", "Hopper-v5").update.actor_step
    assert isinstance(step, TrustRegion)
    return {"max_kl": step.max_kl, "iterations": step.iterations}


def epochs_of_policy_gradient() -> Numbers:
    """Actor steps of the vanilla policy gradient per rollout, and PPO's."""
    configs = [config_of(FIGURE_3, setting) for setting in ("vanilla-policy-gradient", PPO)]
    once, often = (gradient_steps(config) * config.num_envs * config.horizon for config in configs)
    return {"once": round(once), "often": round(often)}


def lower_bound() -> Numbers:
    """How far the clipped objective ever lies above the unclipped one, on ratios from 0 to 4."""
    ratio = jnp.linspace(0.0, 4.0, 401)[1:]
    signs, no_kl = jnp.stack([-jnp.ones_like(ratio), jnp.ones_like(ratio)]), jnp.zeros((2, 400))
    log_ratio = jnp.log(jnp.stack([ratio, ratio]))
    clipped, unclipped = (objective(log_ratio, signs, no_kl) for objective in (Clip(0.2), Unclipped()))
    below = np.asarray(unclipped - clipped)
    return {"above": float(max(0.0, -below.min())), "ratios": below.size, "equal": int(np.sum(below == 0))}


def last_exponent() -> Numbers:
    """The exponent of gamma lambda at the last TD error of a rollout of 8 rows, seen from its first row."""
    rows, product = 8, 0.5
    reward = jnp.zeros((rows, 1)).at[-1].set(1.0)  # with values of 0 the only TD error that is not 0
    zero, on = jnp.zeros((rows, 1)), jnp.ones((rows, 1))
    weight = gae(reward, zero, zero, on, on, product)[0, 0]
    return {"rows": rows, "exponent": round(float(jnp.log(weight) / jnp.log(product)))}


def best_baseline() -> Numbers:
    """Variance of one sample's gradient with the value as baseline, over that with the best baseline.

    The best weighs each reward with the squared length of the score; on the three actions of the figure.
    """
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    rewards, squared = np.asarray(REWARDS, np.float64), ((np.eye(3) - p) ** 2).sum(axis=1)
    scores = np.eye(3) - p
    true = p @ (scores * rewards[:, None])
    value, best = float(p @ rewards), float((p * squared) @ rewards / (p @ squared))

    def variance(baseline: float) -> float:
        return float(p @ (squared * (rewards - baseline) ** 2) - true @ true)

    return {
        "value": value,
        "best": best,
        "more": variance(value) / variance(best) - 1,
        "raw": variance(0.0) / variance(best),
    }


def bias_and_variance() -> Numbers:
    """Squared bias and variance of the advantage at lambda 0 and 1, with the largest error of the critic."""
    walk = max(advantages()["walk"], key=lambda row: row["critic_error"])
    return {
        "bias_0": walk["bias2"][0],
        "bias_1": walk["bias2"][-1],
        "variance_0": walk["variance"][0],
        "variance_1": walk["variance"][-1],
        "error": walk["critic_error"],
    }


def step_in_the_mean() -> Numbers:
    """KL of a step of 0.01 in the mean of a Gaussian, with a wide and with a narrow one."""
    kl = {}
    for std in (1.0, 0.01):
        mean, log_std = jnp.zeros((1, 1)), jnp.full((1, 1), jnp.log(std))
        kl[std] = float(diagonal_gaussian_kl(mean, log_std, mean + 0.01, log_std)[0])
    return {"wide": kl[1.0], "narrow": kl[0.01]}


# ---- language models


def price_of_a_nat() -> Numbers:
    """Gold score, KL and error of the reward model at the end of PPO with three KL coefficients."""
    return {
        name: {
            "gold": _last(of["gold"]),
            "kl": _last(of["kl"]),
            "error": _last(of["reward model"]) - _last(of["gold"]),
        }
        for beta, of in raw("language/over-optimisation.json").items()
        for name in [{"0.5": "strong", "0.1": "weak", "0.002": "weakest"}[beta.rpartition(" ")[2]]]
    }


def _last(values: Sequence[float]) -> float:
    return float(np.mean(values[-LAST_ITERATIONS:]))


def preferences_without_sampling() -> Numbers:
    """Gold score of DPO and PPO, with standard errors, and how far each went from the SFT model."""
    told = {row["name"]: row["value"] for row in raw("language/sentiment.json")}
    return {
        short: {
            "gold": told[f"{name}: gold score"],
            "error": told[f"{name}: its standard error"],
            "kl": told[f"{name}: KL to SFT, nats"],
        }
        for short, name in (("dpo", "DPO, beta 0.3"), ("ppo", "PPO, beta 0.5"))
    }


# ---- the page


def with_interval(found: statistics.Estimate) -> str:
    """A number in words, with its interval."""
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _interval(found: statistics.Estimate) -> Numbers:
    return {"value": found.value, "low": found.low, "high": found.high}


def _scores(grid: str, *settings: str) -> Numbers:
    """Of each setting by its name in letters: `clip-0.2` is `clip_02`; with its interval."""
    names = (setting.replace("-", "_").replace(".", "") for setting in settings)
    return {name: with_interval(mean_score(grid, one)) for name, one in zip(names, settings, strict=True)}


def claims() -> list[dict[str, Any]]:
    """The rows of `docs/claims.toml`."""
    found: list[dict[str, Any]] = tomllib.loads(FILE.read_text())["claim"]
    return found


def sentence(claim: Mapping[str, Any]) -> str:
    """What we say to a claim: its sentence, with the numbers of its function."""
    numbers = globals()[claim["number"]]() if "number" in claim else {}
    return str(claim["ours"]).format(**numbers)


def table() -> str:
    """The claims as tables of Markdown, one for each kind of page that makes them."""
    parts: list[str] = []
    by_page: dict[str, list[dict[str, Any]]] = {}
    for claim in claims():
        by_page.setdefault(claim["who"], []).append(claim)
    for who, of_page in by_page.items():
        parts += [f"## {who}", "", "| claim | measured here | verdict |", "|---|---|---|"]
        for claim in of_page:
            answer = ". ".join(part for part in (sentence(claim), _source(claim)) if part)
            cells = claim["claim"], answer, f"**{claim['verdict']}**"
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts).strip()


def _source(claim: Mapping[str, Any]) -> str:
    """The command that makes the numbers, and the links to what they are read from."""
    links = [f"[{path.removeprefix('proximo/')}](../{path})" for path in claim.get("raw", [])]
    return ", ".join([f"`{command}`" for command in claim.get("command", [])] + links)
