"""The whole pipeline on film reviews: texts, preferences, a reward model, and policies.

    SFT         train a model to write reviews
    reward      train a reward model on pairs of reviews with one preferred
    PPO, GRPO   maximise its score, with a KL penalty towards the SFT model
    DPO         train on the same pairs directly

The true score of a review is known here (`reviews.gold`), and nothing is trained on it. So the example shows
over-optimisation: a reward model is accurate near the texts that it was trained on, and the further a policy
moves (KL), the more of its score is the reward model's error. The KL coefficient decides how far. With BETA,
PPO writes better reviews that stay varied. With a fifth of it, nearly all are the same.

    python -m examples.language.sentiment         (`make lm-example`)
"""

import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from examples.language import new_folder, verdict, written
from examples.language.reviews import LONGEST, SUBJECTS, WORDS, gold, preferred, review
from proximo import language
from proximo.core import FixedKL
from proximo.language.files.folder import load_model
from proximo.language.text.data import read_prompts
from proximo.language.text.tokenizer import load_tokenizer, word_tokenizer
from proximo.language.train.options import SamplingOptions
from proximo.language.train.policy import Policy, evaluate_responses
from proximo.language.train.responses import response_mask
from proximo.language.train.rollout import Rollouts

LAYERS, SIZE, CONTEXT = 2, 64, 32
TEXTS, PAIRS, JUDGED = 4000, 2000, 1024
BETA = 0.5  # KL coefficient, per nat: the score has a standard deviation of 1
WEAK, WEAKEST = 0.1, 0.002  # too small: the policy collapses, or exploits the reward model


@dataclass(frozen=True)
class Options:
    """Run the pipeline and print the results of each stage."""

    out: Path = Path("runs/sentiment")
    """Output folder; must be new."""
    seed: int = 0
    """Random seed of the texts, the preferences and all training."""
    episodes: int = 20_000
    """Total responses that PPO and GRPO train on."""


@dataclass(frozen=True)
class Judged:
    """Samples of a policy: their gold scores, and its distance from the SFT model."""

    gold: np.ndarray
    kl: float
    distinct: float  # share of different texts among them
    entropy: float  # of a token, in nats

    @property
    def error(self) -> float:
        """Standard error of the mean gold score."""
        return float(self.gold.std(ddof=1) / len(self.gold) ** 0.5)


def judged(folder: Path, reference: Path, prompts: Path) -> Judged:
    """Sample a policy, score its answers with gold, and estimate KL(policy || reference) in nats."""
    folder, reference = folder / "model", reference / "model"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    sampling = SamplingOptions(response_length=LONGEST, batch_size=JUDGED)
    asked = read_prompts(prompts, tokenizer, 8).records
    rollouts = Rollouts(asked, tokenizer, sampling, [gold], {}, (1.0,), seed=99)
    rollout = rollouts.collect(model, 0)
    old = evaluate_responses(Policy(load_model(reference)), rollout.responses, rollout.width).log_prob
    mask = response_mask(rollout.responses.lengths, old.shape[1])
    nats, tokens = float((rollout.log_prob * mask).sum()), float(mask.sum())
    kl = (nats - float((old * mask).sum())) / len(rollout.score)
    distinct = len(set(rollout.completions)) / len(rollout.completions)
    return Judged(rollout.score, kl, distinct, -nats / tokens)


def staged(name: str, run: Any) -> Any:
    """Print a run in one line, and return it."""
    facts = {label: run.metrics[metric] for metric, label in FACTS.items() if metric in run.metrics}
    numbers = "  ".join(f"{label} {value:.3g}" for label, value in facts.items())
    print(f"{name:<18} {run.iterations:>5} iterations {run.seconds:>5.0f} s   {numbers}", flush=True)
    return run


FACTS = {
    "objective/scores": "reward",
    "rewards/gold": "gold",
    "objective/kl": "KL",
    "val/distinct": "distinct",
    "loss": "loss",
    "eval_accuracy": "held-out accuracy",
    "rewards/accuracies": "accuracy",
}


def pairs(folder: Path, prompts: Sequence[str], draw: np.random.Generator) -> list[dict[str, str]]:
    """Two samples of the model for each prompt, with one preferred; equal samples are left out."""
    both = language.load(folder).generate(list(prompts), samples=2, max_new_tokens=LONGEST, seed=7)
    first, second = ([row[i] for row in both] for i in range(2))
    rows = []
    for prompt, a, b, a_wins in zip(prompts, first, second, preferred(first, second, draw), strict=True):
        if a.strip() and b.strip() and a != b:
            chosen, rejected = (a, b) if a_wins else (b, a)
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def main(options: Options) -> bool:
    """Run the pipeline. Returns whether it reached its targets."""
    started, out, seed = time.perf_counter(), options.out, options.seed
    draw = np.random.default_rng(seed)
    base = new_folder(out / "base", word_tokenizer(WORDS), LAYERS, SIZE, CONTEXT)
    texts = [review(draw) for _ in range(TEXTS)]
    prompts = written(out / "prompts.jsonl", ({"prompt": f"the {subject} was"} for subject in SUBJECTS))
    sft_data = written(out / "texts.jsonl", ({"prompt": a, "completion": b} for a, b in texts))
    sft = staged("SFT", language.sft(
        model=str(base), from_scratch=True, data=str(sft_data), epochs=6, batch_size=16, length=CONTEXT,
        learning_rate=2e-3, seed=seed, out=out / "sft",
    ))  # fmt: skip
    asked = [f"the {subject} was" for subject in draw.choice(SUBJECTS, PAIRS)]
    pair_data = written(out / "pairs.jsonl", pairs(sft.folder, asked, draw))
    reward = staged("reward model", language.reward(
        model=str(sft.folder), data=str(pair_data), epochs=4, batch_size=64, length=CONTEXT,
        learning_rate=5e-4, evaluation_share=0.1, seed=seed, out=out / "reward",
    ))  # fmt: skip
    scored: dict[str, Any] = dict(
        model=str(sft.folder), data=str(prompts), reward_model=(str(reward.folder),), reward=gold,
        reward_weights=(0.0, 1.0), response_length=LONGEST, episodes=options.episodes, seed=seed,
    )  # fmt: skip
    steps = dict(batch_size=128, minibatches=2, learning_rate=5e-4)
    lead, weak, weakest = (f"PPO, beta {beta:g}" for beta in (BETA, WEAK, WEAKEST))
    runs = {lead: staged(lead, language.ppo(**scored, **steps, kl=FixedKL(BETA), out=out / "ppo"))}
    runs["GRPO, beta 0.5"] = staged("GRPO, beta 0.5", language.grpo(
        **scored, batch_size=16, samples=8, beta=0.5, learning_rate=5e-4, out=out / "grpo"
    ))  # fmt: skip
    runs["DPO, beta 0.3"] = staged("DPO, beta 0.3", language.dpo(
        model=str(sft.folder), data=str(pair_data), epochs=4, batch_size=64, length=CONTEXT, beta=0.3,
        learning_rate=2e-4, seed=seed, out=out / "dpo",
    ))  # fmt: skip
    tight = staged(weak, language.ppo(**scored, **steps, kl=FixedKL(WEAK), out=out / "ppo-weak"))
    # Almost no KL penalty, with smaller steps, which find more than the nearest high-scoring answer.
    smaller = steps | dict(learning_rate=2e-4)
    loose = staged(weakest, language.ppo(**scored, **smaller, kl=FixedKL(WEAKEST), out=out / "ppo-weakest"))
    ways = {lead: out / "ppo", weak: tight.folder, weakest: loose.folder}
    pictured(out / "over-optimisation.png", ways)
    policies = {name: run.folder for name, run in runs.items()}
    others = {weak: tight.folder, weakest: loose.folder}
    quoted(out / "samples.json", {"SFT": sft.folder, **policies, **others})
    return told(sft.folder, reward.metrics, policies, others, prompts, started)


def quoted(path: Path, policies: dict[str, Path]) -> None:
    """Write sample answers of each policy to a file."""
    asked, options = [f"the {subject} was" for subject in SUBJECTS[:4]], dict(max_new_tokens=LONGEST, seed=1)
    said = {name: language.generate(folder, asked, **options) for name, folder in policies.items()}
    path.write_text(json.dumps(said, indent=1) + "\n")


def told(
    sft: Path,
    reward: dict[str, float],
    policies: dict[str, Path],
    others: dict[str, Path],
    prompts: Path,
    started: float,
) -> bool:
    """Print the figures beside their targets. Policies with a weak KL penalty have no targets."""
    before = judged(sft, sft, prompts)
    accuracy = reward["eval_accuracy"]
    facts: dict[str, tuple[float, str, bool]] = {
        "reward model: accuracy on held-out pairs": (accuracy, "> 0.65", accuracy > 0.65),
        **_facts("SFT", before),
    }
    for name, folder in (policies | others).items():
        after = judged(folder, sft, prompts)
        gain = float((after.gold.mean() - before.gold.mean()) / np.hypot(after.error, before.error))
        facts |= _facts(name, after)
        if name in policies:
            facts[f"{name}: gain over SFT, in standard errors"] = (gain, ">= 2", gain >= 2)
            facts[f"{name}: KL to SFT, nats"] = (after.kl, "<= 10", after.kl <= 10)
        else:
            facts[f"{name}: KL to SFT, nats"] = (after.kl, "", True)
        if name == next(iter(policies)):  # better, and not by saying one thing
            share = f"{name}: share of distinct responses"
            facts[share] = (after.distinct, ">= 0.1", after.distinct >= 0.1)
    minutes = (time.perf_counter() - started) / 60
    facts["minutes"] = (minutes, "<= 10", minutes <= 10)
    return verdict(prompts.parent / "figures.json", facts)


def _facts(name: str, found: Judged) -> dict[str, tuple[float, str, bool]]:
    return {
        f"{name}: gold score": (float(found.gold.mean()), "", True),
        f"{name}: its standard error": (found.error, "", True),
        f"{name}: share of distinct responses": (found.distinct, "", True),
        f"{name}: entropy of a token, nats": (found.entropy, "", True),
    }


CURVES = {
    "objective/kl": "kl",
    "rewards/gold": "gold",
    "rewards/reward": "reward model",
    "val/distinct": "distinct",
}


def pictured(path: Path, runs: dict[str, Path]) -> None:
    """Gold and reward-model scores over the root of the KL: numbers, and with matplotlib a picture."""
    drawn = {}
    for name, run in runs.items():
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        drawn[name] = {ours: [round(row[metric], 4) for row in rows] for metric, ours in CURVES.items()}
    path.with_suffix(".json").write_text(json.dumps(drawn) + "\n")
    if importlib.util.find_spec("matplotlib") is None:  # of another extra than `language`
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for colour, (name, curves) in zip(("tab:green", "tab:blue", "tab:red"), drawn.items(), strict=True):
        distance = [max(kl, 0.0) ** 0.5 for kl in curves["kl"]]
        for score, line in (("reward model", ":"), ("gold", "-")):
            axes.plot(distance, curves[score], line, color=colour, label=f"{name}: {score}")
    axes.set_xlabel("square root of KL(policy || SFT), nats")
    axes.set_ylabel("mean score")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
