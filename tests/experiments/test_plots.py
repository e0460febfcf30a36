"""The figures: drawn from what is there, and the same bytes for the same results."""

from dataclasses import replace

import pytest
from stand_in import GRID, PUBLISHED, fill, write_random

from proximo.errors import UserError
from proximo.experiments import plots
from proximo.experiments.grid import Published
from proximo.experiments.grids import find_grid
from proximo.experiments.summary import summary


def drawn(tmp_path, folder):
    settings = [replace(setting, published=PUBLISHED) for setting in GRID.settings]
    numbers = summary(replace(GRID, settings=settings), tmp_path / "results")
    return plots.draw(GRID, tmp_path / "results", numbers, tmp_path / folder)


def test_figures_of_a_part_of_a_grid_are_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    write_random(tmp_path)
    fill(tmp_path, environments=["CartPole-v1"])
    paths = drawn(tmp_path, "first")
    assert [path.name for path in paths] == ["tiny.png", "tiny.svg", "tiny-scores.png", "tiny-scores.svg"]
    for path, again in zip(paths, drawn(tmp_path, "second"), strict=True):
        assert path.read_bytes() == again.read_bytes()
        assert 1000 < path.stat().st_size < 100_000


def test_settings_of_one_family_share_a_colour():
    looks = plots.line_styles([setting.name for setting in find_grid("table1").settings])
    assert len(set(looks.values())) == 11  # each can be told from the others
    assert len({colour for colour, _ in looks.values()}) == 4  # none, clipping, adaptive, fixed
    figure = plots.line_styles([setting.name for setting in find_grid("figure3").settings])
    assert len({colour for colour, _ in figure.values()}) == 6
    names = [setting.name for setting in find_grid("recipe").settings]
    assert (
        len(set(plots.line_styles(names).values())) == len(names) > 2 * len(plots.COLOURS)
    )  # by their lines


def test_a_legend_of_long_names_is_not_cut(tmp_path):
    labels = [f"{name}, and all that belongs to it, in many words" for name in "abcdefghi"]
    grid = replace(
        GRID, settings=[replace(GRID.settings[0], name=x[0], label=x) for x in labels], baseline="a"
    )
    fill(tmp_path, grid, environments=["CartPole-v1"])
    figure = plots._curves(grid, tmp_path / "results")
    figure.canvas.draw()
    (legend,), edge = figure.legends, figure.bbox
    box = legend.get_window_extent()
    assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
    assert box.y0 >= max(axis.get_window_extent().y1 for axis in figure.axes)  # and covers no curve


def test_published_scores_of_environments_stand_beside_ours(tmp_path):
    grid = replace(GRID, references={env: Published(50.0, "a benchmark") for env in GRID.environments})
    fill(tmp_path, grid)
    numbers = summary(grid, tmp_path / "results")
    paths = plots.draw(grid, tmp_path / "results", numbers, tmp_path / "figures")
    assert [path.name for path in paths] == ["tiny.png", "tiny.svg", "tiny-scores.png", "tiny-scores.svg"]


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "proximo\[plots\]"'):
        plots.require_matplotlib()
