"""The whole pipeline on film reviews, from nothing: texts, preferences, a reward model, and three uses of it.

    SFT      a model learns to write reviews
    reward   another learns from pairs of reviews which one is preferred
    PPO, GRPO   maximise its score, tethered to the SFT model;   DPO learns from the same pairs directly

The reviews' true worth is known here (`reviews.gold`), and no one is trained on it. So one can see what RLHF
is about: a reward model is right near the texts it was trained on, and the further a policy goes (KL), the
more of its score is its error.

    python -m examples.language.sentiment         (`make lm-example`)
"""

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


@dataclass(frozen=True)
class Options:
    """Run the pipeline and print what each stage reached."""

    out: Path = Path("runs/sentiment")
    """Where everything is written; must be new."""
    seed: int = 0
    """Of the texts, the preferences and all training."""
    episodes: int = 20_000
    """Answers that PPO and GRPO learn from."""


@dataclass(frozen=True)
class Judged:
    """Samples of a policy: their gold scores, and how far it is from the SFT model."""

    gold: np.ndarray
    kl: float

    @property
    def error(self) -> float:
        """Standard error of the mean gold score."""
        return float(self.gold.std(ddof=1) / len(self.gold) ** 0.5)


def judged(folder: Path, reference: Path, prompts: Path) -> Judged:
    """Sample a policy; score its answers with gold, and estimate KL(policy || reference) in nats."""
    folder, reference = folder / "model", reference / "model"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    sampling = SamplingOptions(response_length=LONGEST, batch_size=JUDGED)
    asked = read_prompts(prompts, tokenizer, 8).records
    rollouts = Rollouts(asked, tokenizer, sampling, [gold], {}, (1.0,), seed=99)
    rollout = rollouts.collect(model, 0)
    old = evaluate_responses(Policy(load_model(reference)), rollout.responses, rollout.width).log_prob
    mask = response_mask(rollout.responses.lengths, old.shape[1])
    return Judged(rollout.score, float(((rollout.log_prob - old) * mask).sum(1).mean()))


def pairs(folder: Path, prompts: Sequence[str], draw: np.random.Generator) -> list[dict[str, str]]:
    """Two samples of the model for each prompt, and which of them was preferred; equal ones are left out."""
    both = language.load(folder).generate(list(prompts), samples=2, max_new_tokens=LONGEST, seed=7)
    first, second = ([row[i] for row in both] for i in range(2))
    rows = []
    for prompt, a, b, a_wins in zip(prompts, first, second, preferred(first, second, draw), strict=True):
        if a.strip() and b.strip() and a != b:
            chosen, rejected = (a, b) if a_wins else (b, a)
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def main(options: Options) -> bool:
    """The pipeline; whether it did what it should."""
    started, out, seed = time.perf_counter(), options.out, options.seed
    draw = np.random.default_rng(seed)
    base = new_folder(out / "base", word_tokenizer(WORDS), LAYERS, SIZE, CONTEXT)
    texts = [review(draw) for _ in range(TEXTS)]
    prompts = written(out / "prompts.jsonl", ({"prompt": f"the {subject} was"} for subject in SUBJECTS))
    sft_data = written(out / "texts.jsonl", ({"prompt": a, "completion": b} for a, b in texts))
    sft = language.sft(
        model=str(base), from_scratch=True, data=str(sft_data), epochs=6, batch_size=16, length=CONTEXT,
        learning_rate=2e-3, seed=seed, out=out / "sft",
    )  # fmt: skip
    asked = [f"the {subject} was" for subject in draw.choice(SUBJECTS, PAIRS)]
    pair_data = written(out / "pairs.jsonl", pairs(sft.folder, asked, draw))
    reward = language.reward(
        model=str(sft.folder), data=str(pair_data), epochs=4, batch_size=64, length=CONTEXT,
        learning_rate=5e-4, evaluation_share=0.1, seed=seed, out=out / "reward",
    )  # fmt: skip
    scored: dict[str, Any] = dict(
        model=str(sft.folder), data=str(prompts), reward_model=(str(reward.folder),), reward=gold,
        reward_weights=(0.0, 1.0), response_length=LONGEST, episodes=options.episodes, seed=seed,
    )  # fmt: skip
    tethered = dict(batch_size=128, minibatches=2, learning_rate=5e-4)
    runs = {
        "PPO": language.ppo(**scored, **tethered, kl=FixedKL(0.1), out=out / "ppo"),
        "GRPO": language.grpo(
            **scored, batch_size=16, samples=8, beta=0.5, learning_rate=5e-4, out=out / "grpo"
        ),
        "DPO": language.dpo(
            model=str(sft.folder), data=str(pair_data), epochs=4, batch_size=64, length=CONTEXT, beta=0.3,
            learning_rate=2e-4, seed=seed, out=out / "dpo",
        ),
    }  # fmt: skip
    # Nearly free, and in smaller steps, which find more than the nearest answer that the model likes.
    loose = language.ppo(
        **scored, **(tethered | dict(learning_rate=2e-4)), kl=FixedKL(0.002), out=out / "ppo-loose"
    )
    pictured(out / "over-optimisation.png", {"PPO, beta 0.1": out / "ppo", "PPO, beta 0.002": loose.folder})
    policies = {name: run.folder for name, run in runs.items()}
    quoted(out / "samples.json", {"SFT": sft.folder, **policies, "PPO, beta 0.002": loose.folder})
    return told(sft.folder, reward.metrics, policies, loose.folder, prompts, started)


def quoted(path: Path, policies: dict[str, Path]) -> None:
    """What each policy says, into a file."""
    asked, options = [f"the {subject} was" for subject in SUBJECTS[:4]], dict(max_new_tokens=LONGEST, seed=1)
    said = {name: language.generate(folder, asked, **options) for name, folder in policies.items()}
    path.write_text(json.dumps(said, indent=1) + "\n")


def told(
    sft: Path, reward: dict[str, float], policies: dict[str, Path], loose: Path, prompts: Path, started: float
) -> bool:
    """Print what was reached beside what should be; of the one that was hardly held, what it came to."""
    before, freed = judged(sft, sft, prompts), judged(loose, sft, prompts)
    accuracy = reward["eval_accuracy"]
    facts: dict[str, tuple[float, str, bool]] = {
        "reward model: accuracy on held-out pairs": (accuracy, "> 0.65", accuracy > 0.65),
        "gold score of SFT": (float(before.gold.mean()), "", True),
        "    standard error": (before.error, "", True),
    }
    for name, folder in policies.items():
        after = judged(folder, sft, prompts)
        gain = float((after.gold.mean() - before.gold.mean()) / np.hypot(after.error, before.error))
        facts[f"gold score of {name}"] = (float(after.gold.mean()), "", True)
        facts["    standard error" + " " * len(facts)] = (after.error, "", True)
        facts["    gain over SFT, in standard errors" + " " * len(facts)] = (gain, ">= 2", gain >= 2)
        facts["    KL to SFT, nats" + " " * len(facts)] = (after.kl, "<= 10", after.kl <= 10)
    facts["gold score of PPO, beta 0.002"] = (float(freed.gold.mean()), "", True)
    facts["    standard error" + " " * len(facts)] = (freed.error, "", True)
    facts["    KL to SFT, nats" + " " * len(facts)] = (freed.kl, "", True)
    minutes = (time.perf_counter() - started) / 60
    facts["minutes"] = (minutes, "<= 10", minutes <= 10)
    return verdict(prompts.parent / "figures.json", facts)


CURVES = {"objective/kl": "kl", "rewards/gold": "gold", "rewards/reward": "reward model"}


def pictured(path: Path, runs: dict[str, Path]) -> None:
    """Gold and reward-model score against the square root of the KL; what is drawn is written beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    drawn = {}
    for colour, (name, run) in zip(("tab:blue", "tab:red"), runs.items(), strict=True):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        curves = {ours: [round(row[metric], 4) for row in rows] for metric, ours in CURVES.items()}
        distance = [max(kl, 0.0) ** 0.5 for kl in curves["kl"]]
        for score, line in (("reward model", ":"), ("gold", "-")):
            axes.plot(distance, curves[score], line, color=colour, label=f"{name}: {score}")
        drawn[name] = curves
    path.with_suffix(".json").write_text(json.dumps(drawn) + "\n")
    axes.set_xlabel("square root of KL(policy || SFT), nats")
    axes.set_ylabel("mean score")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(0 if main(tyro.cli(Options)) else 1)
