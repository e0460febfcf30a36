"""Run folders as plain data, whatever state they are in; groups and comparisons of them."""

import csv
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from proximo.control.config import as_json, preset
from proximo.control.evaluate import summary
from proximo.errors import UserError
from proximo.options import with_options
from proximo.rerun import policy_commands
from proximo.runs import statistics
from proximo.runs.report import as_numbers, find_runs, read_run, study_of, write_table

NOW = datetime.now(UTC)


def write_run(path, *, env="CartPole-v1", seed=0, score=10.0, rows=6, saved=True, extra=None, **options):
    """A run folder as `proximo train` leaves it, after `rows` iterations of 100 steps, 5 episodes each."""
    (path / "model").mkdir(parents=True)
    if saved:
        (path / "model" / "model.json").write_text("{}")
    config = with_options(preset("default", env), **{"seed": seed, "steps": 600, **options})
    described = {"versions": {"python": "3.11.7"}, "fingerprint": {"cpu": "Abacus", "cores": 2}}
    (path / "config.json").write_text(json.dumps({**as_json(config), **described, **(extra or {})}))
    with (path / "metrics.jsonl").open("w") as file:
        for row in range(1, rows + 1):
            metrics = {
                "rollout/ep_rew_mean": score,
                "train/approx_kl": 0.01 * row,
                "train/clip_fraction": 0.1,
            }
            metrics |= {"time/total_timesteps": 100 * row, "time/fps": 50.0, "time/time_elapsed": 2.0 * row}
            file.write(json.dumps(metrics) + "\n")
    with (path / "episodes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "env", "return", "length", "terminated"])
        writer.writerows([100 * row, env, score, 20, 1] for row in range(1, rows + 1) for env in range(5))
    return path


def study(*paths):
    return study_of([read_run(path) for path in find_runs(paths)], policy_commands)


# ---- reading


def test_a_whole_run(tmp_path):
    run = read_run(write_run(tmp_path / "runs" / "r", seed=3))
    assert (run.env, run.seed, run.steps, run.score, run.problems) == ("CartPole-v1", 3, 600, 10.0, [])
    assert run.name == "runs/r" and run.state(NOW) == "finished" and run.last("time/fps") == 50.0
    assert run.metrics["train/approx_kl"].steps.tolist() == [100, 200, 300, 400, 500, 600]
    assert len(run.episodes.returns) == 30 and run.evaluation is None


def test_the_score_is_of_the_last_100_episodes(tmp_path):
    path = write_run(tmp_path / "run", rows=20)  # 100 episodes of 10
    with (path / "episodes.csv").open("a", newline="") as file:
        csv.writer(file).writerows([2100, 0, 30.0, 20, 1] for _ in range(50))
    assert read_run(path).score == 20.0
    (path / "episodes.csv").unlink()  # then what the metrics say
    assert read_run(path).score == 10.0


@pytest.mark.parametrize(
    ("name", "torn", "left"),
    [
        ("metrics.jsonl", lambda text: text[:-20], 5),
        ("episodes.csv", lambda text: text.rstrip("\r\n")[:-5], 29),
        # Half a number is a number too: only the end of the line tells that it is whole.
        ("episodes.csv", lambda text: text + "700,0,48", 30),
        ("episodes.csv", lambda text: text + "700,0,48.0,2", 30),
    ],
)
def test_a_torn_last_line_is_left_out_and_said(tmp_path, name, torn, left):
    path = write_run(tmp_path / "run")
    with (path / name).open(newline="") as file:
        text = file.read()
    (path / name).write_text(torn(text), newline="")
    run = read_run(path)
    assert run.problems == [f"the last line of {name} is incomplete: ignored"]
    found = run.metrics["time/fps"].values if name == "metrics.jsonl" else run.episodes.returns
    assert len(found) == left and run.score == 10.0


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "episodes.csv"])
def test_a_missing_file_is_said(tmp_path, name):
    path = write_run(tmp_path / "run")
    (path / name).unlink()
    run = read_run(path)
    assert run.problems == [f"{name} is missing"]
    assert run.steps == 600 and run.score == 10.0
    assert study(path).groups[0].env == ("unknown environment" if name == "config.json" else "CartPole-v1")


NUMBERS = (
    '{"time/total_timesteps": 700, "a": 1e999, "b": NaN, "c": "1", "d": true, "e": [1], "f": 1%s, "g": 2}'
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "[1, 2]", "config.json is not a JSON object: ignored"),
        ("config.json", "[" * 100_000, "config.json is not a JSON object: ignored"),
        ("metrics.jsonl", 'no\n{"train/loss": 1}\n3\n', "3 lines of metrics.jsonl cannot be read: ignored"),
        ("metrics.jsonl", "\0\xff\n", "1 lines of metrics.jsonl cannot be read: ignored"),
        ("metrics.jsonl", NUMBERS % ("0" * 400) + "\n", None),
        ("episodes.csv", "step,return\n1,2\n", "episodes.csv has no column length: ignored"),
        ("episodes.csv", "step,return,length\n1,a,2\n1,nan,2\n1\n", "3 lines of episodes.csv cannot be"),
        ("episodes.csv", 'step,return,length\n1,2,3\n"' + "x" * 200_000 + "\n", "1 lines of episodes.csv"),
        ("evaluation.json", "{}", "evaluation.json has no mean: ignored"),
        ("evaluation.json", "{", "evaluation.json is not a JSON object: ignored"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, said):
    path = write_run(tmp_path / "run")
    (path / name).write_text(content)
    run = read_run(path)
    assert run.problems == [] if said is None else run.problems[0].startswith(said)
    if content.startswith('{"time'):
        assert run.metrics.keys() == {"time/total_timesteps", "g"}
    study_of([run])


def test_a_run_that_was_taken_up_again_replaces_what_it_repeats(tmp_path):
    path = write_run(tmp_path / "run")
    with (path / "metrics.jsonl").open("a") as file:  # from the checkpoint at 300 on
        for step in (400, 500):
            file.write(json.dumps({"time/total_timesteps": step, "train/approx_kl": 7.0}) + "\n")
    with (path / "episodes.csv").open("a", newline="") as file:
        csv.writer(file).writerows([step, 0, 99.0, 20, 1] for step in (400, 500))
    run = read_run(path)
    assert run.metrics["train/approx_kl"].steps.tolist() == [100, 200, 300, 400, 500]
    assert run.metrics["train/approx_kl"].values[-2:].tolist() == [7.0, 7.0]
    assert run.episodes.steps.tolist() == [100] * 5 + [200] * 5 + [300] * 5 + [400, 500]


def test_an_evaluation_is_read(tmp_path):
    path = write_run(tmp_path / "run")
    content = {"mean": 5.0, "std": 1.0, "low": 4.0, "high": 6.0, "episodes": 2, "returns": [4, 6, None]}
    (path / "evaluation.json").write_text(json.dumps(content))
    assert read_run(path).evaluation == content | {
        "interval": "Student's t",  # as versions computed it that did not say so
        "returns": [4.0, 6.0],
        "lengths": [],
    }


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (dict(rows=6), "finished"),
        (dict(rows=3), "ended early: 300 of 600 steps"),
        (dict(rows=3, until=9.5), "reached 9.5 after 300 of 600 steps"),
        (dict(rows=3, saved=False), "running or interrupted: 300 of 600 steps, last update 5 min ago"),
        (dict(rows=0), "no step is recorded yet"),
    ],
)
def test_the_state_of_a_run(tmp_path, made, said):
    run = read_run(write_run(tmp_path / "run", **made))
    assert run.state((run.written or NOW) + timedelta(minutes=5)) == said


def test_runs_are_found(tmp_path):
    for place in ("b/seed-10", "b/seed-2", "a", "c/lr/seed-0"):
        write_run(tmp_path / place)
    (tmp_path / "notes").mkdir()
    names = [str(path.relative_to(tmp_path)) for path in find_runs([tmp_path / "b", tmp_path])]
    assert names == ["b/seed-2", "b/seed-10", "a", "c/lr/seed-0"]  # each once, by number


def test_what_is_no_run_among_others_is_left_out(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "sweep-CartPole-v1").mkdir()
    (tmp_path / "report.html").write_text("")
    assert find_runs(sorted(tmp_path.iterdir())) == [tmp_path / "run"]
    with pytest.raises(UserError, match="there is no run among"):
        find_runs([tmp_path / "sweep-CartPole-v1", tmp_path / "report.html"])


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("empty", "is not a run folder and contains none"),
        ("nowhere", "does not exist"),
        ("file", "is a file"),
    ],
)
def test_what_is_no_run_is_an_error(tmp_path, place, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=said):
        find_runs([tmp_path / place])


# ---- groups


def test_seeds_of_one_configuration_are_a_group(tmp_path):
    for seed, score in enumerate((1.0, 2.0, 6.0)):
        write_run(tmp_path / f"seed-{seed}", seed=seed, score=score)
    made = study(tmp_path)
    (group,) = made.groups
    assert group.seeds == [0, 1, 2] and group.label == "CartPole-v1"
    # Student's t with 2 degrees of freedom: mean 3, standard deviation sqrt 7.
    half = stats.t.ppf(0.975, 2) * np.sqrt(7 / 3)
    assert group.score[:3] == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    assert group.score.method == "Student's t" and made.rows["CartPole-v1"][0].mean == group.score
    assert made.differing == {} and made.overall == [] and made.notes == []


def test_one_number_has_one_interval_everywhere(tmp_path):
    """The same scores as seeds of `train --seeds`, in a report, as episodes of `evaluate`, in a grid."""
    for scores in ([1.0, 2.0, 6.0], [1.0, 2.0, 6.0, 3.0, 9.0]):
        expected = statistics.mean_of(scores)
        played = summary(scores, [1] * len(scores))
        assert (played.mean, played.low, played.high, played.interval) == expected
        assert statistics.mean([np.array(scores)]) == expected
        middle, low, high = statistics.band(np.array(scores)[:, None])
        assert (middle[0], low[0], high[0]) == pytest.approx(expected[:3])
        folder = tmp_path / str(len(scores))
        for seed, score in enumerate(scores):
            write_run(folder / f"seed-{seed}", seed=seed, score=score)
        made = study(folder)
        assert made.groups[0].score == made.rows["CartPole-v1"][0].mean == expected


def test_groups_are_named_by_what_differs(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "a" / f"{seed}", seed=seed, score=[1.0, 3.0][seed])
        write_run(tmp_path / "b" / f"{seed}", seed=seed, score=[1.0, 2.0][seed], learning_rate=0.1)
    made = study(tmp_path / "b", tmp_path / "a")  # the first named is the one to beat
    assert [group.label for group in made.groups] == ["learning_rate 0.1", "learning_rate 0.001"]
    assert made.differing == {"learning_rate": ["0.1", "0.001"]}
    first, second = made.rows["CartPole-v1"]
    # Two runs, one degree of freedom: 12.706 x 0.5 on either side.
    assert first.mean[:3] == pytest.approx((1.5, 1.5 - 6.353, 1.5 + 6.353), abs=1e-3)
    assert first.improvement is None
    # 1 = 1 counts 1/2, 1 < 2 counts 0, 3 beats both: 2.5 of 4 pairs.
    assert second.mean.value == 2.0 and second.improvement.value == 0.625


def test_groups_of_several_presets_are_named_by_them(tmp_path):
    for env in ("CartPole-v1", "Acrobot-v1"):
        for name, epochs in (("default", 4), ("paper", 10)):
            for gamma in (0.9, 0.99):
                path = tmp_path / env / f"{name}-{gamma}"
                # An option that the recipes of two environments set differently tells no groups apart.
                options = dict(epochs=epochs, gamma=gamma, horizon=32 if env == "CartPole-v1" else 64)
                write_run(path, env=env, extra={"preset": name}, minibatch_size=8, **options)
    made = study(tmp_path)
    assert [group.words for group in made.on("CartPole-v1")] == [
        *("default, gamma 0.9", "default, gamma 0.99", "paper, gamma 0.9", "paper, gamma 0.99")
    ]
    assert [row.label for row in made.overall] == [group.words for group in made.on("CartPole-v1")]


def test_settings_over_environments(tmp_path):
    for env, scores in (("CartPole-v1", (0.0, 10.0)), ("Acrobot-v1", (-300.0, -100.0))):
        for gamma, score in zip((0.9, 0.99), scores, strict=True):
            for seed in range(2):
                path = tmp_path / f"{gamma}-{env}" / f"{seed}"
                write_run(path, env=env, seed=seed, score=score, gamma=gamma)
    made = study(tmp_path)
    assert made.environments == ["Acrobot-v1", "CartPole-v1"]
    assert made.groups[0].label == "Acrobot-v1, gamma 0.9"
    low, high = made.overall  # 0 is the lowest score of an environment, 1 the highest
    assert (low.label, low.mean.value, high.label, high.mean.value) == ("gamma 0.9", 0.0, "gamma 0.99", 1.0)
    assert high.improvement.value == 1.0 and high.runs == 4


def test_equal_seeds_and_other_versions_are_noted(tmp_path):
    write_run(tmp_path / "CartPole-v1-0-20261130-111353")
    write_run(tmp_path / "CartPole-v1-0-20261130-111353-2", extra={"versions": {"python": "3.12.0"}})
    notes = study(tmp_path).notes
    assert "seed 0 occurs more than once" in notes[0] and "different versions" in notes[1]


def test_runs_of_unknown_options_are_not_put_together(tmp_path):
    for name in "ab":
        (write_run(tmp_path / name) / "config.json").unlink()
    assert [group.command for group in study(tmp_path).groups] == [None, None]


# ---- for other programs


def test_the_table_is_tidy(tmp_path):
    count = write_table([study(write_run(tmp_path / "run", seed=3))], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count == 6 * 5  # five metrics; the steps are a column
    expected = dict(group="CartPole-v1", env="CartPole-v1", seed="3", step="200")
    expected |= dict(metric="train/approx_kl", value="0.02")
    assert {"run": str(tmp_path / "run"), **expected} in rows


def test_the_table_tells_groups_and_their_options_apart(tmp_path):
    for gamma in (0.5, 0.9):
        for seed in range(2):
            write_run(tmp_path / f"{gamma}-{seed}", seed=seed, gamma=gamma, score=10 * gamma)
    write_table([study(tmp_path)], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", "group", "env", "seed", "step", "metric", "value", "gamma"]
    scores = {
        (row["group"], row["gamma"], row["value"]) for row in rows if row["metric"] == "rollout/ep_rew_mean"
    }
    assert scores == {("gamma 0.5", "0.5", "5.0"), ("gamma 0.9", "0.9", "9.0")}


def test_runs_that_no_option_tells_apart_are_named_by_their_folders(tmp_path):
    for name in ("baseline", "mine"):  # the code of an environment, say, was another
        for seed in range(2):
            write_run(tmp_path / name / f"seed-{seed}", seed=seed, score=[1.0, 2.0][name == "mine"])
    made = study(tmp_path)
    assert [(group.label, group.seeds) for group in made.groups] == [("baseline", [0, 1]), ("mine", [0, 1])]
    assert made.notes == [] and [group.score.value for group in made.groups] == [1.0, 2.0]
    write_run(tmp_path / "mine-0", gamma=0.5)
    write_run(tmp_path / "mine-1", seed=1, gamma=0.5)
    labels = [group.label for group in study(tmp_path).groups]
    assert labels == ["gamma 0.99, baseline", "gamma 0.99, mine", "gamma 0.5"]


def test_the_numbers_are_plain(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", gamma=0.5, rows=0)
    said = json.loads(json.dumps(as_numbers(study(tmp_path)), allow_nan=False))
    first, second = said["groups"]
    assert first["score"] == {"value": 10.0, "low": None, "high": None, "method": None}
    assert first["runs"][0]["steps"] == 600 and first["command"].startswith("proximo train CartPole-v1")
    assert (second["score"], second["mean"], second["improvement"]) == (None, None, None)
    assert said["differing"] == {"gamma": {"gamma 0.99": "0.99", "gamma 0.5": "0.5"}}
