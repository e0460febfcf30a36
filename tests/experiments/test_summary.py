"""The table's numbers from files on disk, and how they are printed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from stand_in import GRID, fill, write_random

from proximo.errors import UserError
from proximo.experiments import cells as files
from proximo.experiments import table
from proximo.experiments.grid import Published
from proximo.experiments.summary import summary

# A run's score is 100 gamma + seed + (1 + 2 + 3 + 4) / 4: 12.5 and 13.5 for the low setting, 92.5 and 93.5
# for the high one, on either environment.
PAPER = Published(0.82, "a paper")


def row(numbers, setting):
    return next(row for row in numbers["settings"] if row["setting"] == setting)


def printed(*tables):
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for one in tables:
            console.print(one)
    return capture.get()


def test_a_whole_grid(tmp_path):
    write_random(tmp_path, score=3.5)
    fill(tmp_path)
    numbers = summary(GRID, tmp_path / "results")
    assert (numbers["runs"], numbers["of"]) == (8, 8)
    # Random 3.5 is 0, the best run 93.5 is 1: 9 / 90 = 0.1, 10 / 90 = 0.1111; 89 / 90 = 0.9889 and 1.
    low, high = row(numbers, "low"), row(numbers, "high")
    assert low["score"][0] == pytest.approx((0.1 + 10 / 90) / 2, rel=1e-3)
    assert high["score"][0] == pytest.approx((89 / 90 + 1) / 2, rel=1e-3)
    assert low["score"][1] < low["score"][0] < low["score"][2]
    assert low["better_than_baseline"] == [0, 0, 0] and high["better_than_baseline"] is None
    assert numbers["environments"]["Pendulum-v1"]["one"] == 93.5
    assert numbers["environments"]["Pendulum-v1"]["settings"]["low"]["scores"] == {"0": 12.5, "1": 13.5}
    assert numbers["environments"]["Pendulum-v1"]["settings"]["low"]["mean"] == 13


def test_a_grid_that_is_partly_there(tmp_path):
    write_random(tmp_path, score=3.5)
    numbers = summary(GRID, tmp_path / "results")
    assert (numbers["runs"], row(numbers, "low")["score"]) == (0, None)
    fill(tmp_path, environments=["CartPole-v1"])
    fill(tmp_path, settings=["low"], seeds=[0])
    numbers = summary(GRID, tmp_path / "results")
    assert (numbers["runs"], numbers["of"]) == (5, 8)
    low, high = row(numbers, "low"), row(numbers, "high")
    assert (low["runs"], low["of"], high["runs"]) == (3, 4, 2)
    # The best run on Pendulum is the one that is there, 12.5, which counts as 1.
    assert low["score"][0] == pytest.approx((0.1 + 10 / 90 + 1.0) / 3, rel=1e-3)
    assert low["score"][1:] == [None, None]  # one run of Pendulum alone has no interval
    # Where both are, on CartPole, there are two runs of either: too few for an interval.
    assert low["better_than_baseline"] == [0, None, None]
    assert "3 of 4" in printed(table.settings(numbers))


def test_without_the_random_policy_there_is_no_score(tmp_path):
    fill(tmp_path)
    numbers = summary(GRID, tmp_path / "results")
    assert row(numbers, "low")["score"] is None and numbers["runs"] == 8


def test_a_grid_with_references(tmp_path):
    grid = replace(GRID, references={env: Published(50.0, "a benchmark") for env in GRID.environments})
    fill(tmp_path, grid)
    numbers = summary(grid, tmp_path / "results")
    assert row(numbers, "low")["score"][0] == pytest.approx(13 / 50)
    # The highest point of a curve, not its end, of which 50 counts as 1; the runs' mean, then the tasks'.
    peaks = [
        max(x for x in result["curve"] if x is not None)
        for path in (tmp_path / "results/tiny").glob("*/low-*.json")
        for result in [json.loads(path.read_text())]
    ]
    assert row(numbers, "low")["best_moment"] == pytest.approx(np.mean(peaks) / 50, abs=1e-4)
    assert "best moment" in printed(table.settings(numbers))
    assert numbers["environments"]["CartPole-v1"]["one"] == 50
    assert "a benchmark" in table.notes(numbers)[0]


def test_a_diverged_run_is_counted(tmp_path):
    write_random(tmp_path)
    fill(tmp_path)
    path = tmp_path / "results" / "tiny" / "CartPole-v1" / "low-0.json"
    content = files.read(path)
    files.write_json(path, {**content, "diverged": 200, "score": None})
    numbers = summary(GRID, tmp_path / "results")
    assert row(numbers, "low")["diverged"] == 1
    assert "4, 1 diverged" in printed(table.settings(numbers))


def test_runs_of_another_grid_are_read_from_there(tmp_path):
    write_random(tmp_path)
    fill(tmp_path)
    other = replace(GRID, name="other", settings=[replace(s, home="tiny") for s in GRID.settings])
    write_random(tmp_path, other)
    numbers = summary(other, tmp_path / "results")
    assert numbers["runs"] == 8 and row(numbers, "high")["score"] is not None


def test_the_table_stands_beside_the_published_numbers(tmp_path):
    low, high = GRID.settings
    high = replace(high, published=PAPER, scores={"CartPole-v1": Published(475.0, "a figure")})
    grid = replace(GRID, settings=[low, high])
    write_random(tmp_path, score=3.5)
    fill(tmp_path)
    numbers = summary(grid, tmp_path / "results")
    lines = printed(table.settings(numbers)).splitlines()
    assert "a grid for tests: 8 of 8 runs of 400 steps" in lines[0]
    line = next(line for line in lines if "the high one" in line)
    assert [cell.strip() for cell in line.split("│")[2:4]] == ["0.82", "0.99"]
    assert "92.5" not in printed(table.environments(numbers)) and "93.0 (475)" in printed(
        table.environments(numbers)
    )
    assert table.notes(numbers)[1:] == ["published: a paper", "published: a figure", table.INTERVALS]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (-7.04, "-7.0"), (0.0, "0.0"), (1234.5, "1,234"), (-115.0, "-115")]
)
def test_raw_numbers(value, text):
    assert table.raw_number(value) == text


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    fill(tmp_path)
    changed = replace(GRID, steps=500)
    with pytest.raises(UserError, match="another configuration"):
        summary(changed, tmp_path / "results")


def test_as_markdown(tmp_path):
    write_random(tmp_path, score=3.5)
    fill(tmp_path)
    numbers = summary(GRID, tmp_path / "results")
    text = table.markdown(numbers)
    blocks = text.split("\n\n")
    assert "8 of 8 runs" in blocks[0]
    for block in (blocks[1], blocks[3]):
        lines = block.splitlines()
        assert lines[1].startswith("| --- | ---: |")
        assert len({line.count("|") for line in lines}) == 1
    # Returns of 12.5 and 13.5: their mean is 13; the worst score is 3.5, the best run's 93.5.
    assert "| 13.0 | 13.0 |" in blocks[3]
    assert blocks[3].splitlines()[-2:] == ["| counts as 0 | 3.5 | 3.5 |", "| counts as 1 | 93.5 | 93.5 |"]
    score, intervals = blocks[4].splitlines()
    assert score == "- score: 0 is the random policy, 1 the best single run of the environment"
    assert "bootstrap" in intervals and "Student's t below five runs" in intervals
