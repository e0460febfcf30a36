"""The worked examples: what they reward, by hand, and one of them run for a moment."""

import json
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from examples.language import new_folder, parentheses, sentiment, written
from examples.language.bandit import worth
from examples.language.digits import sequences, share_right
from examples.language.parentheses import closed, closing, open_brackets
from examples.language.reviews import WORDS, gold, preferred, review
from examples.language.walks import NODES, Graph
from proximo import language
from proximo.language.files.folder import save_model
from proximo.language.files.loading import load_model_and_tokenizer
from proximo.language.files.model_options import ModelOptions
from proximo.language.text.tokenizer import word_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("brilliant .", 2.0),
        ("very good and the cast was awful .", 1.5 * 1.0 - 2.0),
        ("not bad .", 0.7),  # -0.7 x -1
        ("hardly long but the film was rather slow .", 0.0 - 0.7 * 0.5),
        ("good and the film was good .", 1.0 + (0.5 * 1.0 - 1.0)),  # said again: half as much, less one
        ("very not good .", -0.7 - 0.5),  # an adverb that is behind another one costs a half
        ("brilliant brilliant .", 2.0 + (0.5 * 2.0 - 1.0) - 0.5),  # and so does an adjective behind another
        (".", 0.0),
    ],
)
def test_what_a_review_is_worth(text, score):
    assert gold([text]) == [pytest.approx(score)]


def test_repeating_the_best_word_does_not_pay():
    few, many = gold(["brilliant .", "brilliant " * 9 + "."])
    assert many < few


def test_preferences_follow_the_gold_score_as_often_as_bradley_and_terry_say():
    # Scores of 1 and 0: the better one is preferred with probability 1 / (1 + e^-1) = 0.731.
    chosen = preferred(["good ."] * 20_000, ["long ."] * 20_000, np.random.default_rng(0))
    assert np.mean(chosen) == pytest.approx(0.731, abs=0.01)


def test_a_review_has_a_prompt_and_an_end():
    draw = np.random.default_rng(0)
    for prompt, completion in (review(draw) for _ in range(50)):
        assert prompt.startswith("the ") and prompt.endswith(" was") and completion.endswith(" .")


def test_the_share_of_digits_that_are_right():
    assert share_right(["3692", "3600", "3", ""], ["3692"] * 4) == [1.0, 0.5, 0.25, 0.0]
    rows = {row["prompt"]: row["answer"] for row in sequences()}
    assert rows["1470"] == "3692" and len(rows) == 90  # 1 + 3 x place, modulo 10


def test_how_good_a_walk_is():
    graph = Graph(0)
    start = int(np.argmax(graph.steps))  # as far away as a node can be
    path, node = NODES[start], start
    while node:
        node = int(next(n for n in np.flatnonzero(graph.edges[node]) if graph.steps[n] < graph.steps[node]))
        path += NODES[node]
    assert graph.optimality(path) == 1.0 and graph.optimality(path[:-1]) == 0.0
    assert graph.optimality(path[0] * 2) == 0.0  # no node leads to itself
    walks = [graph.walk(np.random.default_rng(seed)) for seed in range(50)]
    assert all(0.0 <= graph.optimality(walk) <= 1.0 for walk in walks)


def test_what_the_bandit_pays():
    assert worth(["a", "e", "q", ""]) == [1.0, -0.5, 0.0, 0.0]


def test_what_closing_brackets_earns():
    # `([(` wants `)])`: two of three and then a wrong one; all and one too many; nothing.
    earned = closed(["([("] * 4, [")])", ")]]", ")])(", ""])
    assert earned == pytest.approx([1.0, 2 / 3 - 0.2, 1.0 - 0.2, 0.0])
    assert len(open_brackets()) == 2 + 4 + 8 + 16 and closing("([[") == "]])"


def test_an_example_runs_and_says_what_it_reached(tmp_path, capsys):
    options = parentheses.Options(out=tmp_path, episodes=2 * 256)
    assert not parentheses.main(options)  # two iterations teach nothing yet
    said = json.loads((tmp_path / "figures.json").read_text())
    assert [row["good"] for row in said] == [False, False, True]
    assert capsys.readouterr().out.count("NO") == 2


def test_a_policy_is_as_far_from_itself_as_rounding(tmp_path, monkeypatch):
    """What the pipeline measures of a policy: 64 answers, each worth something, and a KL of 0."""
    monkeypatch.setattr(sentiment, "JUDGED", 64)
    base = new_folder(tmp_path / "base", word_tokenizer(WORDS), layers=1, size=32, context=32)
    drawn = load_model_and_tokenizer(ModelOptions(model=str(base), from_scratch=True), jax.random.key(0))
    save_model(tmp_path / "model", *drawn)
    prompts = written(tmp_path / "prompts.jsonl", [{"prompt": "the film was"}])
    found = sentiment.judged(tmp_path, tmp_path, prompts)
    assert found.gold.shape == (64,) and abs(found.kl) < 1e-3
    # Of random weights, whose tokens are all about as likely.
    assert found.distinct > 0.9 and found.entropy == pytest.approx(np.log(len(WORDS) + 3), abs=0.05)


def test_the_lead_example_of_the_results_has_not_collapsed():
    """Better than the model that it began with, and still many different answers; `make lm-example`."""
    rows = json.loads((ROOT / "results/language/sentiment.json").read_text())
    value = {row["name"]: row["value"] for row in rows}
    lead = f"PPO, beta {sentiment.BETA:g}"
    assert value[f"{lead}: gold score"] > value["SFT: gold score"] + 0.5
    assert value[f"{lead}: share of distinct responses"] > 0.1
    assert value[f"PPO, beta {sentiment.WEAK:g}: share of distinct responses"] < 0.05
    assert all(row["good"] for row in rows)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_the_example_installs_only_what_it_needs():
    words = ["make", "--dry-run", "--always-make", "lm-example"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '".[language]"' in said and "[dev]" not in said and "examples.language.sentiment" in said


def test_each_stage_of_the_pipeline_is_told_of_in_one_line(capsys):
    metrics = {"objective/scores": 1.25, "objective/kl": 2.0, "val/distinct": 0.5, "lr": 1.0}
    run = language.LanguageRunResult(Path("x"), "ppo", 156, 156, 9, 12.3, metrics)
    assert sentiment.staged("PPO", run) is run
    told = "PPO                  156 iterations    12 s   reward 1.25  KL 2  distinct 0.5\n"
    assert capsys.readouterr().out == told
