"""Fine-tuning of a language model by a reward model whose error is known: what the committed example says."""

from typing import Any

from proximo.experiments.figures.rounded import rounded
from proximo.experiments.measured import raw

METHODS = ("SFT", "DPO, beta 0.3", "PPO, beta 0.5", "GRPO, beta 0.5", "PPO, beta 0.1", "PPO, beta 0.002")


def rlhf() -> dict[str, Any]:
    """The numbers of the figure.

    runs     of PPO by their KL coefficient: per iteration the reward model's score, the gold score that
             nothing is trained on, and the KL to the SFT model in nats
    methods  what each policy reached, of 1,024 answers: gold score with its standard error, KL to the SFT
             model, share of distinct answers, and four answers
    """
    told = {row["name"]: row["value"] for row in raw("language/sentiment.json")}
    answers = raw("language/sentiment-samples.json")
    methods = [
        {
            "name": name,
            "gold": rounded(told[f"{name}: gold score"]),
            "error": rounded(told[f"{name}: its standard error"]),
            "kl": rounded(told.get(f"{name}: KL to SFT, nats", 0.0)),
            "distinct": rounded(told[f"{name}: share of distinct responses"]),
            "answers": answers[name],
        }
        for name in METHODS
    ]
    runs = {
        name: {"gold": rounded(of["gold"]), "model": rounded(of["reward model"]), "kl": rounded(of["kl"])}
        for name, of in raw("language/over-optimisation.json").items()
    }
    return {"runs": runs, "methods": methods}
