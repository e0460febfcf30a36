"""The page: whole HTML that needs nothing else, runs nothing, and shows what is in the files."""

import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from test_report import study, write_run

import proximo
from proximo.cli import main
from proximo.runs.report import find_runs, page, read_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EMBEDDED = re.compile(r"data:video/mp4;base64,[A-Za-z0-9+/]+=*")  # a video as a part of the page
VOID = {"meta", "link", "br", "hr"}


class Whole(HTMLParser):
    """Reads a page; elements that are not closed in their order, and attributes, are kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.tags, self.attributes, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.wrong.append(f"/{name}")

    def handle_data(self, text):
        self.words.append(text)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def dangers(whole):
    """Whatever runs, or comes from elsewhere."""
    found = [
        name for name in whole.tags if name in ("script", "iframe", "object", "embed", "img", "base", "form")
    ]
    for name, value in whole.attributes:
        if name == "src" and EMBEDDED.fullmatch(value):
            continue
        outside = re.search(r"https?:|//|javascript:|url\(|@import", value or "")
        if name.startswith("on") or outside or (name in ("src", "href") and value != "data:,"):
            found.append((name, value))
    return found + re.findall(r"@import|url\(", " ".join(whole.words))


@pytest.fixture
def two_groups(tmp_path):
    for group, options in (("a", {}), ("b", {"learning_rate": 0.1})):
        for seed in range(3):
            write_run(tmp_path / "runs" / group / f"seed-{seed}", seed=seed, score=10.0 + seed, **options)
    return tmp_path / "runs"


def test_the_page_is_whole_and_needs_nothing_else(two_groups):
    whole = Whole(page(study(two_groups)))
    assert whole.wrong == [] and dangers(whole) == []
    headings = ("Reproduce", "Learning curves", "Comparison", "Update size")
    for words in (*headings, "Episode returns and lengths", "Options", "Runs", "Versions and machine"):
        assert words in whole.text, words
    assert "proximo train CartPole-v1 --" in whole.text and "--steps 600 --num-envs 8" in whole.text
    assert "--learning-rate 0.1" in whole.text and "--seeds 3" in whole.text
    assert "learning_rate 0.1" in whole.text and "Abacus" in whole.text and "Notes" not in whole.text


def test_a_single_run(tmp_path):
    whole = Whole(page(study(write_run(tmp_path / "run", seed=7))))
    assert whole.wrong == [] and "one seed: no interval over seeds" in whole.text
    assert "Comparison" not in whole.text and "--seed 7" in whole.text
    for metric in ("ep_rew_mean", "approx_kl", "clip_fraction", "fps", "time_elapsed"):
        assert metric in whole.words, metric
    assert "above 0.02 in 67% of the updates" in whole.text  # 0.01, 0.02, 0.03, ..., 0.06


def test_an_interval_over_seeds(two_groups):
    # Scores 10, 11, 12: 11 with 4.303 times 1 / sqrt 3 on either side.
    assert "95% interval 8.516 to 13.48, Student's t" in Whole(page(study(two_groups / "a"))).text


def test_what_was_typed_is_shown(tmp_path):
    words = ["train", "CartPole-v1", "--seeds", "2", "--steps", "600", "--out", "my runs"]
    extra = {"command": words, "preset": "default"}
    for seed in range(2):
        write_run(tmp_path / f"seed-{seed}", seed=seed, extra=extra)
    made = study(tmp_path)
    assert made.groups[0].command == "proximo train CartPole-v1 --seeds 2 --steps 600"
    whole = Whole(page(made))
    assert made.groups[0].command in whole.text and "Preset: default." in whole.text
    # Seeds that were typed one by one; and one of a run from before command lines were recorded.
    typed = ["train", "CartPole-v1", "--seed", "2", "--steps", "600"]
    write_run(tmp_path / "seed-2", seed=2, extra={"command": typed})
    write_run(tmp_path / "seed-3", seed=3)
    first, second, third = study(tmp_path).groups[0].command.split("\n")
    assert (first, second) == (made.groups[0].command, "proximo " + " ".join(typed))
    assert third.startswith("proximo train CartPole-v1 --") and third.endswith(" --seed 3")
    assert " --steps 600 " in third


EVIL = "<script>alert(1)</script>"


def test_what_stands_in_files_is_text(tmp_path):
    odd = {"env": EVIL, EVIL: f'"{EVIL}', "versions": {EVIL: EVIL}, "fingerprint": {"cpu": EVIL}}
    for index, name in enumerate(("<b>", '"onload="x')):
        folder = write_run(tmp_path / name, seed=index, extra=odd | {"until": f"'{EVIL}{index}"})
        line = {"time/total_timesteps": 700, f"train/{EVIL}": 1.0, '"><img src=x>/y': 2.0}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    text = page(study(tmp_path))
    whole = Whole(text)
    assert whole.wrong == [] and dangers(whole) == [] and EVIL not in text
    assert "script-src" not in text and "default-src 'none'" in text  # were it not, it would still not run
    assert whole.text.count(EVIL) > 10


def test_broken_runs_are_reported(tmp_path):
    for name in ("config.json", "metrics.jsonl", "episodes.csv"):
        folder = write_run(tmp_path / "runs" / name.partition(".")[0])
        (folder / name).unlink()
    torn = write_run(tmp_path / "runs" / "torn", rows=3, saved=False) / "metrics.jsonl"
    torn.write_text(torn.read_text()[:-9])
    whole = Whole(page(study(tmp_path / "runs")))
    assert whole.wrong == [] and "Notes" in whole.text
    for name in ("config.json is missing", "metrics.jsonl is missing", "episodes.csv is missing"):
        assert name in whole.text
    assert (
        "the last line of metrics.jsonl is incomplete" in whole.text
        and "running or interrupted" in whole.text
    )


@pytest.mark.parametrize("kept", [(), ("config.json",), ("metrics.jsonl",), ("episodes.csv",)])
def test_hardly_anything_is_left_of_a_run(tmp_path, kept):
    folder = write_run(tmp_path / "run")
    for name in ("config.json", "metrics.jsonl", "episodes.csv"):
        if name not in kept:
            (folder / name).write_text("")
    assert Whole(page(study(folder))).wrong == []


def test_an_evaluation_is_shown(tmp_path):
    folder = write_run(tmp_path / "run")
    content = dict(mean=5.5, std=1.0, low=4.5, high=6.5, episodes=2, returns=[4.25, 6.75], lengths=[3, 4])
    assert "Evaluation" not in Whole(page(study(folder))).words
    (folder / "evaluation.json").write_text(json.dumps(content))
    text = Whole(page(study(folder))).text
    assert "4.5 to 6.5" in text and "4.25 to 6.75" in text and "3.5" in text


def test_ten_long_runs_fit(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(10):
        folder = write_run(tmp_path / str(number), seed=number // 2, gamma=0.9 + 0.09 * (number % 2))
        with (folder / "metrics.jsonl").open("w") as file:
            for row in range(490):
                noise = {f"train/{index}": float(rng.normal()) for index in range(24)}
                noise |= {
                    "time/total_timesteps": 2048 * (row + 1),
                    "rollout/ep_rew_mean": float(rng.normal()),
                }
                file.write(json.dumps(noise) + "\n")
    text = page(study(tmp_path))
    assert len(text) < 600_000 and text.count("<figure") > 25


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine: its console is not read")
def test_a_browser_has_no_complaint(two_groups, tmp_path):
    good, bad = tmp_path / "good.html", tmp_path / "bad.html"
    good.write_text(page(study(two_groups)))
    # The check itself must be able to fail: the page's own policy refuses what would run.
    bad.write_text(good.read_text().replace("</main>", "</main><script>document.title = 'ran'</script>"))
    assert complaints(good, tmp_path) == []
    (refused,) = complaints(bad, tmp_path)
    assert "Content Security Policy" in refused


def complaints(path, tmp_path):
    """The console's lines while a headless browser shows a page."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    words = [CHROMIUM, *flags, profile, "--enable-logging=stderr", "--dump-dom", path.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>CartPole-v1: 2 groups</title>" in done.stdout
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


# ---- the command


def test_the_command(two_groups, capsys):
    assert main(["report", str(two_groups)]) == 0
    said = capsys.readouterr().out
    assert f"report: {two_groups / 'report.html'}" in said and (two_groups / "report.html").stat().st_size
    assert "11.0  learning_rate 0.1: 3 runs (95% interval 8.5 to 13.5, Student's t)" in said


def test_the_command_in_json_with_a_table(two_groups, tmp_path, capsys):
    out, table = tmp_path / "page.html", tmp_path / "table.csv"
    places = [str(two_groups / "b"), str(two_groups / "a" / "seed-0")]
    assert main(["report", *places, "--out", str(out), "--csv", str(table), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["report"], said["csv"]) == (str(out), str(table)) and table.stat().st_size
    assert [len(group["runs"]) for group in said["groups"]] == [3, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a run folder"),
        (["nowhere"], "nowhere does not exist"),
        (["."], ". is not a run folder and contains none"),
        (["runs", "--out", "nowhere/page.html"], "cannot write nowhere/page.html: No such file or directory"),
        (["runs", "--csv", "."], "cannot write .: Is a directory"),
        (["runs", "--seed", "3"], "--seed"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch, words, said):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path if words != ["."] else tmp_path / "empty")
    write_run(tmp_path / "runs" / "seed-0")
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("proximo report: ") and said in error


@pytest.mark.parametrize("env", ["\x1b[31mred", "\ud800", "\0", "$title ${body} $", "x" * 5000])
def test_an_odd_name_from_a_file(tmp_path, capsys, env):
    write_run(tmp_path / "run", extra={"env": env})
    assert main(["report", str(tmp_path), "--csv", str(tmp_path / "table.csv")]) == 0
    assert "\x1b" not in capsys.readouterr().out  # nothing speaks to the terminal
    assert Whole((tmp_path / "report.html").read_text(encoding="utf-8")).wrong == []


def test_a_run_of_the_real_command(tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["CartPole-v1", "--steps", "2048", "--epochs", "1"]
    assert main(["train", *words, "--quiet", "--out", str(folder)]) == 0
    assert main(["report", str(folder), "--json"]) == 0
    out = capsys.readouterr().out.splitlines()[-1]
    (group,) = json.loads(out)["groups"]
    assert shlex.split(group["command"]) == ["proximo", "train", *words] and group["preset"] == "default"
    assert group["runs"][0]["state"] == "finished" and group["runs"][0]["problems"] == []
    assert main(["report", str(folder)]) == 0
    text = Whole((folder / "report.html").read_text()).text
    assert group["command"] in text
    for metric in json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]):
        assert metric == "time/total_timesteps" or metric.partition("/")[2] in text, metric


# ---- the printed command, through the real command line

SMALL = ["--num-envs", "2", "--horizon", "32", "--minibatch-size", "32", "--epochs", "1", "--hidden", "8"]
OWN = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Mine(CartPoleEnv):
    def __init__(self, push=10.0, **options):
        super().__init__(**options)
        self.force_mag = push

gym.register("Mine-v0", entry_point="env_of_a_report:Mine", max_episode_steps=50)
"""


def begun(*words):
    return lambda out: main(["train", *words, *SMALL, "--steps", "128", "--quiet", "--out", out])


def resumed(out):
    main(["train", "CartPole-v1", *SMALL, "--steps", "64", "--quiet", "--out", out])
    return main(["train", "--resume", out, "--steps", "128", "--quiet"])


def from_python(out):
    options = dict(num_envs=2, horizon=32, minibatch_size=32, epochs=1, hidden=(8,), steps=128)
    proximo.train("FrozenLake-v1", out=out, env_kwargs={"is_slippery": False}, seed=3, **options)


def of_a_sweep(out):
    words = ["CartPole-v1", *SMALL, "--steps", "128", "--vary", "learning_rate=1e-4|1e-2", "--trials", "1"]
    main(["sweep", *words, "--seeds", "2", "--quiet", "--json", "--out", f"{out}-sweep"])
    best = json.loads(of_a_sweep.capsys.readouterr().out.splitlines()[-1])["best"]
    command = shlex.split(best["command"])
    assert main([*command[1:], "--quiet", "--out", out]) == 0
    scores = [read_run(path).score for path in find_runs([Path(out)])]
    assert best["value"] == pytest.approx(np.mean(scores)) and len(scores) == 2  # the trial's own number


@pytest.mark.parametrize(
    "make",
    [
        begun("CartPole-v1", "--preset", "paper", "--clip", "0.1"),
        begun("env_of_a_report:Mine-v0", "--env-kwargs", "push=5.0"),
        begun("CartPole-v1", "--seeds", "2", "--seed", "4"),
        resumed,
        from_python,
        of_a_sweep,
    ],
    ids=["preset", "own environment with arguments", "ensemble", "resumed", "from Python", "sweep"],
)
def test_the_printed_command_makes_the_run_again(tmp_path, monkeypatch, capsys, make):
    if make is of_a_sweep:
        pytest.importorskip("optuna")
        make.capsys = capsys
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "env_of_a_report.py").write_text(OWN)
    make("first")
    capsys.readouterr()
    assert main(["report", "first", "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    for line in group["command"].split("\n"):  # as they are printed: they go to folders of their own
        assert main([*shlex.split(line)[1:], "--quiet", "--json"]) == 0
    place = tmp_path / "runs" if (tmp_path / "runs").exists() else tmp_path / "first-again"
    again = [read_run(path) for path in find_runs([place])]
    first = [read_run(path) for path in find_runs([tmp_path / "first"])]
    assert [run.seed for run in again] == [run.seed for run in first]
    for before, after in zip(first, again, strict=True):
        assert after.episodes.returns.tolist() == before.episodes.returns.tolist() != []
        for name, series in before.metrics.items():
            if not name.startswith("time/"):
                assert after.metrics[name].values.tolist() == series.values.tolist(), name
