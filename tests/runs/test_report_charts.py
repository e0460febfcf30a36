"""Curves, axes and markup: what the page is made of."""

import numpy as np
import pytest
from test_report import write_run

from proximo.runs.report import read_run
from proximo.runs.report.charts import Line, Mark, count, limits, plot, short, style, tick_label, ticks
from proximo.runs.report.curves import Curve, align, downsample, edges, histograms_by_third, with_range
from proximo.runs.report.hints import families
from proximo.runs.report.markup import Markup, join, tag
from proximo.runs.report.read import Series

# ---- curves


def test_thinning_keeps_mean_and_spikes():
    values = np.zeros(1000)
    values[777] = 50.0
    curve = downsample(Series(np.arange(1000.0), values), 100)
    assert len(curve.steps) == 100 and curve.values.max() == 5.0 and curve.high.max() == 50.0
    assert curve.steps[0] == 4.5 and curve.values.mean() == pytest.approx(values.mean())
    few = downsample(Series(np.arange(3.0), np.ones(3)), 100)
    assert few.steps.tolist() == [0, 1, 2]


def test_seeds_meet_at_the_same_steps_as_far_as_all_have_come():
    curves = [
        downsample(Series(np.array(steps, float), np.array(steps, float)))
        for steps in ([0, 10, 20, 30], [5, 15, 25])
    ]
    steps, values = align(curves)
    assert steps.tolist() == [0, 10, 20, 25]
    assert values[0].tolist() == [0, 10, 20, 25]
    assert np.isnan(values[1][0]) and values[1][1:].tolist() == [10, 20, 25]


def test_the_range_of_seeds():
    both = [Series(np.array([1.0, 2.0]), np.array(values)) for values in ([0.0, 4.0], [2.0, 8.0])]
    curve = with_range(both)
    assert [array.tolist() for array in curve] == [[1, 2], [1, 6], [0, 4], [2, 8]]


def test_thirds_of_the_training(tmp_path):
    run = read_run(write_run(tmp_path / "run"))  # 5 episodes at each of 100, ..., 600
    bars = edges([run.episodes], "returns")
    assert (bars[0], bars[-1], len(bars)) == (9.5, 10.5, 31)
    rows = histograms_by_third([run], "returns", bars)
    assert [row.episodes for row in rows] == [10, 10, 10]
    assert [row.mean for row in rows] == [10.0] * 3
    assert all(row.shares.sum() == pytest.approx(1.0) for row in rows)
    assert edges([], "returns") is None


# ---- markup and axes


def test_markup_escapes_by_itself():
    made = tag("p", "<b>", Markup("<i></i>"), None, title='"', class_="x", id=None)
    assert made == '<p title="&quot;" class="x">&lt;b&gt;<i></i></p>'
    assert join("&", tag("br")) == "&amp;<br>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1,234"),
        (12.345, "12.35"),
        (500.0, "500"),
        (0.01234, "0.0123"),
        (-3e-7, "-3.00e-07"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_ticks_are_round():
    assert ticks(0, 525, 6) == [0, 100, 200, 300, 400, 500]
    assert ticks(-1.0, 1.0, 3) == [-1, 0, 1]
    assert ticks(0, 1, 0x10) == pytest.approx(np.arange(11) / 10)
    assert ticks(1, 1, 3) == [] and ticks(0, float("inf"), 3) == []
    assert [tick_label(x, [0, 0.005, 0.01]) for x in (0, 0.005)] == ["0", "0.005"]
    assert [count(x) for x in (0, 500, 250_000, 1_500_000)] == ["0", "500", "250k", "1.5M"]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([10.0, 100.0], (0.0, 104.5)),  # 0 costs little
        ([90.0, 100.0], (89.5, 100.5)),
        ([-100.0, -10.0], (-104.5, 0.0)),
        ([0.2, 0.2], (0.0, 0.4)),
        ([0.0], (0.0, 1.0)),
        ([np.nan], (0.0, 1.0)),
    ],
)
def test_where_an_axis_ends(values, ends):
    assert limits([np.array(values)]) == pytest.approx(ends)


def test_a_plot():
    curve = Curve(np.array([0.0, 50.0, 100.0]), np.array([0.0, np.nan, 10.0]))
    drawn = plot([Line(curve, 9, "ours")], "a <name>", large=True, marks=[Mark(5.0, "half")])
    # From 0 to 10.5: 10 lies 48 thousandths below the top. What is not finite is not drawn.
    assert 'd="M0 1000L1000 48"' in drawn and 'aria-label="a &lt;name&gt;"' in drawn
    assert style(9) == "s2 d1" and 'class="line s2 d1"' in drawn and ">half<" in drawn
    assert "nothing is recorded" in plot([], "nothing")
    alone = Curve(np.array([5.0]), np.array([1.0]))
    assert 'd="M1000 500h0"' in plot([Line(alone, 0)], "a single point")


def test_a_band_of_which_nothing_is_known_is_not_drawn():
    steps, ones, unknown = np.array([0.0, 50.0]), np.ones(2), np.full(2, np.nan)
    drawn = plot([Line(Curve(steps, ones, unknown, ones), 0)], "a mean", whole=True)
    assert 'class="band' not in drawn and 'class="line' in drawn  # a path must begin with a point
    known = plot([Line(Curve(steps, ones, np.array([0.0, np.nan]), ones), 0)], "a mean", whole=True)
    assert 'class="band' in known


def test_families_in_their_order():
    names = ["time/fps", "objective/kl", "train/loss", "alone", "rollout/ep_rew_mean"]
    assert list(families(names)) == ["rollout", "train", "time", "objective", "other"]
