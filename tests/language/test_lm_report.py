"""`proximo report` on runs of language models: what it shows, and the commands that make them again."""

import csv
import json
import os
import re
import shlex
from html import unescape

import pytest
from workplace import workplace

from proximo import language
from proximo.cli import main
from proximo.rerun import language_commands
from proximo.runs.report import find_runs, page, read_run, study_of

WORDS = {
    "sft": ["base", "--data", "texts.jsonl", "--epochs", "2", "--batch-size", "6"],
    "reward": ["base", "--data", "pairs.jsonl", "--batch-size", "10"],
    "dpo": ["base", "--data", "pairs.jsonl", "--batch-size", "10"],
    "ppo": ["base", "--data", "prompts.jsonl", "--reward", "rewards_of_mine:ones", "--reward-model",
            "runs/reward", "--episodes", "24", "--batch-size", "8", "--response-length", "6",
            "--samples-every", "1"],
    "grpo": ["base", "--data", "prompts.jsonl", "--reward", "rewards_of_mine:ones", "--episodes", "8",
             "--batch-size", "4", "--samples", "2", "--response-length", "6"],
}  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Runs of all five commands, in the folder that they were begun in."""
    folder = workplace(tmp_path_factory.mktemp("place"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for command, words in WORDS.items():
            assert main(["lm", command, *words, "--quiet", "--out", f"runs/{command}", "--seed", "3"]) == 0
        yield folder


def reported(*places):
    return study_of([read_run(path) for path in find_runs(places)], language_commands)


def text_of(made):
    text = re.sub(r"<(style|svg).*?</\1>", "", made, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_reward_by_source_kl_length_ends_and_entropy_are_shown_over_time(there):
    made = reported(there / "runs" / "ppo")
    assert made.notes == [] and made.runs[0].problems == [] and made.runs[0].state(made.made) == "finished"
    text = text_of(page(made))
    for caption in (
        *("Reward", "Reward from ones", "Reward from reward", "KL divergence from the reference"),
        *("Response length", "Share of responses that end", "Entropy", "Share of distinct responses"),
    ):
        assert f" {caption} " in text, caption
    assert "Proximal Policy Optimization with the clipped objective" in text and "lm ppo" in text
    assert "unknown environment" not in text and "cannot be read" not in text and "Final reward" in text
    for metric in json.loads((there / "runs/ppo/metrics.jsonl").read_text().splitlines()[-1]):
        assert metric in ("step", "time/time_elapsed") or metric.rpartition("/")[2] in text, metric


def test_samples_of_the_first_the_middle_and_the_last_iteration_have_their_scores(there):
    rows = [json.loads(line) for line in (there / "runs/ppo/completions.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {1, 2, 3}
    text = text_of(page(reported(there / "runs" / "ppo")))
    for step in (1, 2, 3):
        row = next(row for row in rows if row["step"] == step)
        told = f"{row['score']:.3g} ones {row['rewards/ones']:.3g} reward {row['rewards/reward']:.3g}"
        assert f" {step} {' '.join(row['prompt'].split())}" in text and told in text


@pytest.mark.parametrize(
    ("command", "method", "captions"),
    [
        ("sft", "Supervised fine-tuning", ["Loss", "Token accuracy"]),
        ("reward", "A reward model", ["Loss", "Accuracy", "Held-out accuracy"]),
        ("dpo", "Direct Preference", ["Loss", "Accuracy", "Margin"]),
        ("grpo", "Group Relative", ["Reward", "Reward from ones", "Response length"]),
    ],
)
def test_every_kind_of_training_is_reported(there, command, method, captions):
    text = text_of(page(reported(there / "runs" / command)))
    assert method in text and all(f" {caption} " in text for caption in captions)


@pytest.mark.parametrize("command", ["sft", "ppo"])
def test_the_printed_command_makes_the_run_again(there, capsys, command):
    (line,) = reported(there / "runs" / command).groups[0].rerun.lines
    words = shlex.split(line)
    assert words[:3] == ["proximo", "lm", command] and "--out" not in words
    assert main([*words[1:], "--quiet", "--json"]) == 0
    again = read_run(there / json.loads(capsys.readouterr().out)["run"])
    first = read_run(there / "runs" / command)
    for name, series in first.metrics.items():
        if name not in ("time/time_elapsed", "eps"):
            assert again.metrics[name].values.tolist() == series.values.tolist(), name


def test_a_reward_that_no_command_can_name_is_said(there):
    def none(completions, **columns):
        return [0.0] * len(completions)

    language.grpo(
        model=there / "base", data=there / "prompts.jsonl", reward=none,
        episodes=8, batch_size=4, samples=2, response_length=6, out=there / "python",
    )  # fmt: skip
    group = reported(there / "python").groups[0]
    assert (
        group.rerun.lines == []
        and "a function from Python that no command can name" in group.rerun.reasons[0]
    )


def test_both_kinds_in_one_report_are_two_parts(there, capsys):
    words = ["--steps", "64", "--num-envs", "2", "--horizon", "32", "--minibatch-size", "32"]
    assert main(["train", "CartPole-v1", *words, "--quiet", "--out", "runs/cart"]) == 0
    capsys.readouterr()
    places = [f"runs/{name}" for name in ("cart", "ppo", "sft")]
    assert main(["report", *places, "--csv", "table.csv", "--out", "page.html"]) == 0
    said = capsys.readouterr().out
    assert "CartPole-v1: 1 run" in said and "objective/scores  lm ppo: 1 run" in said
    made = (there / "page.html").read_text()
    assert made.count('<div class="kind">') == 2 and made.count("<h1>") == 2
    text = text_of(made)
    assert text.index("CartPole-v1") < text.index("Proximo training report: language models")
    with (there / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["env"] for row in rows} >= {"CartPole-v1", "lm sft", "lm ppo"}
    assert main(["report", *places, "--json", "--out", os.devnull]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert {group["env"] for group in groups} >= {"CartPole-v1", "lm sft", "lm ppo"}


def test_a_torn_run_is_reported_with_what_is_left(there, tmp_path):
    (tmp_path / "torn").mkdir()
    whole = (there / "runs/ppo/metrics.jsonl").read_text()
    (tmp_path / "torn/metrics.jsonl").write_text(whole[:-20])
    (tmp_path / "torn/config.json").write_text(json.dumps({"command": "ppo", "options": {"data": [3]}}))
    (tmp_path / "torn/completions.jsonl").write_text('{"step": 1, "completion": "<b>x", "score": null}\n{"st')
    made = reported(tmp_path / "torn")
    assert made.runs[0].problems == ["the last line of metrics.jsonl is incomplete: ignored"]
    assert "no score" in text_of(page(made)) and "&lt;b&gt;x" in page(made)
    assert "cannot be reproduced by a command" in made.notes[0]
