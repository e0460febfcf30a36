"""Pages of numbers: what they show is computed again from the committed runs."""

from inspect import isfunction
from pathlib import Path

import pytest

from benchmarks.site_tables import BLOCK, DOCS, PAGES, TABLES, shown, written
from proximo.experiments import claims, measured

ROOT = Path(__file__).resolve().parents[2]
ROWS = claims.claims()


@pytest.mark.parametrize(("page", "table"), [(p, t) for p in PAGES for t in shown((DOCS / p).read_text())])
def test_a_table_shows_what_the_runs_say(page, table):
    assert shown((DOCS / page).read_text())[table] == TABLES[table](), "python -m benchmarks.site_tables"


def test_every_table_is_shown_once():
    found = [table for page in PAGES for table in shown((DOCS / page).read_text())]
    assert sorted(found) == sorted(TABLES)
    assert sum((DOCS / page).read_text().count("<!-- end -->") for page in PAGES) == len(TABLES)


def test_a_changed_number_is_seen_and_written_again():
    text = (DOCS / "algorithms.md").read_text()
    wrong = text.replace("156,250", "156,251")
    assert shown(wrong)["methods"] != shown(text)["methods"]
    assert written(wrong) == text and len(BLOCK.findall(text)) == 4


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["claim"])
def test_a_claim_has_a_verdict_and_what_it_stands_on(row):
    assert row["verdict"] in claims.VERDICTS
    assert ("number" in row) == (row["verdict"] not in claims.PENDING)
    assert bool(row.get("raw")) == ("number" in row)
    assert all((ROOT / path).exists() for path in row.get("raw", []))
    if "number" in row:
        assert claims.sentence(row) != row["ours"]  # its numbers come from the function


def test_every_function_answers_a_claim():
    named = {row["number"] for row in ROWS if "number" in row}
    own = [of for of in vars(claims).values() if isfunction(of) and of.__module__ == claims.__name__]
    numbers = {of.__name__ for of in own if of.__annotations__["return"] == claims.Numbers}
    assert named == {name for name in numbers if not name.startswith("_")}


def test_gradient_steps_by_hand():
    """PPO: 10 epochs of minibatches of 64. A2C: one step on 16 x 5. TRPO: one step on 2,048."""
    wanted = {"clip-0.2": 10 / 64, "a2c": 1 / 80, "trpo": 1 / 2048, "cem": 0.0}
    assert {of: measured.gradient_steps(measured.config_of("figure3", of)) for of in wanted} == wanted


def test_the_share_of_training_to_a_score():
    """InvertedPendulum has 1000 after the second fiftieth; no curve reaches more than its best point."""
    curve = measured.curves("figure3", "clip-0.2", "InvertedPendulum-v5").mean(axis=0)
    share = measured.share_to("figure3", "clip-0.2", "InvertedPendulum-v5", curve[1])
    assert share == 2 / 50
    assert measured.share_to("figure3", "clip-0.2", "InvertedPendulum-v5", curve.max() + 1) is None


@pytest.mark.parametrize("grid", ["figure3", "table1"])
def test_scores_are_those_of_the_grids_table(grid):
    for row in measured.raw(f"{grid}/summary.json")["settings"][:2]:
        assert measured.mean_score(grid, row["setting"])[:3] == pytest.approx(row["score"], abs=1e-4)


def test_what_the_pages_say_in_words():
    """Sentences beside the tables that hang on their numbers."""
    races = claims.steps_to_a2c()
    assert races["gradients_fewest"] > 1 and races["reached"] == 7
    prices = claims.price_of_a_nat()
    assert prices["weakest"]["error"] > prices["weak"]["error"] > prices["strong"]["error"]
    assert prices["weakest"]["gold"] > prices["strong"]["gold"]
    beside = claims.beside_trpo()
    assert beside["low"] < 0.5 < beside["high"]  # a tie
    assert claims.cost_of_trpo()["high"] < 10
    assert claims.best_baseline()["more"] > 0
