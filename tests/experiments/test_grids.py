"""Grids as data: every published number has its source, every run the command that makes it alone."""

import shlex
from dataclasses import replace

import pytest

from proximo.arguments import config_from, parse_recipe
from proximo.commands.train import Train
from proximo.control.config import validate
from proximo.errors import UserError
from proximo.experiments.atari_games import A2C, GAMES, PPO
from proximo.experiments.cells import cell_path, digest, ensure_description, read_description, write_json
from proximo.experiments.grid import Published, as_words, cells
from proximo.experiments.grids import GRIDS, PAPER_ENVIRONMENTS, find_grid
from proximo.experiments.summary import summary
from proximo.experiments.table import markdown

every_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)


@pytest.mark.parametrize("source", ["", "  "])
def test_a_published_number_without_a_source_cannot_be(source):
    with pytest.raises(ValueError, match=r"0\.82 has no source"):
        Published(0.82, source)
    with pytest.raises(TypeError):
        Published(0.82)


@every_grid
def test_every_published_number_names_its_source(grid):
    numbers = [*grid.references.values()]
    for setting in grid.settings:
        numbers += [*setting.scores.values(), *([setting.published] if setting.published else [])]
    numbers += [number for pair in grid.wins.values() for number in pair]
    numbers += [number for scores in grid.beside.values() for number in scores.values()]
    assert all(isinstance(number, Published) and number.source.strip() for number in numbers)
    assert numbers


def test_the_numbers_of_table_1():
    # Schulman 2017, table 1, top to bottom.
    published = [setting.published.value for setting in find_grid("table1").settings]
    assert published == [-0.39, 0.76, 0.82, 0.70, 0.68, 0.74, 0.71, 0.62, 0.71, 0.72, 0.69]


def test_what_was_read_off_figure_3():
    scores = {s.name: {env: p.value for env, p in s.scores.items()} for s in find_grid("figure3").settings}
    assert scores["trpo"]["Reacher-v5"] == -115 and scores["clip-0.2"]["Walker2d-v5"] == 3460
    assert scores["a2c"]["Swimmer-v5"] == 31 and scores["a2c-trust-region"]["Hopper-v5"] == 1220
    assert scores["cem"] == scores["vanilla-policy-gradient"] == {}


@every_grid
def test_every_run_has_a_configuration_that_can_be(grid):
    runs = cells(grid)
    assert len(runs) == len(grid.settings) * len(grid.environments) * len(grid.seeds)
    assert len({cell.name for cell in runs}) == len(runs)
    for cell in runs:
        assert validate(cell.config).steps == grid.steps
        assert (cell.config.seed, cell.config.env) == (cell.seed, cell.env)
    assert grid.baseline in [setting.name for setting in grid.settings]


@every_grid
def test_the_command_of_a_run_makes_its_configuration(grid):
    for cell in cells(grid, environments=grid.environments[-1:], seeds=grid.seeds[-1:]):
        program, command, *words = shlex.split(cell.command)
        assert (program, command) == ("proximo", "train")
        assert config_from(parse_recipe(Train, "train", words)) == cell.config, cell.command


def test_options_as_words():
    options = {"anneal": False, "anneal_clip": True, "hidden": (8, 8), "target_kl": None, "clip": 0.1}
    assert as_words(options) == [
        *("--no-anneal", "--anneal-clip", "--hidden", "8", "8", "--target-kl", "None", "--clip", "0.1")
    ]


def test_figure_3_has_the_clipped_runs_of_table_1():
    table = {cell.name: cell for cell in cells(find_grid("table1"), settings=["clip-0.2"])}
    figure = {cell.name: cell for cell in cells(find_grid("figure3"), settings=["clip-0.2"])}
    assert figure == table and len(table) == 21


def test_a_recipe_is_confirmed_on_other_seeds():
    assert not set(find_grid("recipe").seeds) & set(find_grid("recipe-confirmation").seeds)


def test_some_cells_alone():
    grid = find_grid("table1")
    some = cells(grid, environments=["Reacher-v5"], settings=["kl-3", "clip-0.1"], seeds=[2])
    assert [cell.name for cell in some] == ["table1/Reacher-v5/clip-0.1-2", "table1/Reacher-v5/kl-3-2"]
    assert some[0].command == "proximo train Reacher-v5 --preset paper --objective clip:epsilon=0.1 --seed 2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environments": ["Hoper-v5"]}, "'Hoper-v5': did you mean Hopper-v5"),
        ({"settings": ["clip-0.4"]}, "clip-0.3"),
        ({"seeds": [3]}, "take one of 0, 1, 2"),
    ],
)
def test_what_a_grid_does_not_have_is_named(options, message):
    with pytest.raises(UserError, match=message):
        cells(find_grid("table1"), **options)


def test_an_unknown_grid():
    with pytest.raises(UserError, match="did you mean table1"):
        find_grid("tabel1")


def test_table_1_is_what_the_paper_ran():
    grid = find_grid("table1")
    assert tuple(grid.environments) == PAPER_ENVIRONMENTS and len(cells(grid)) == 11 * 7 * 3
    assert grid.steps == 1_000_000
    quick = find_grid("table1-quick")
    assert quick.settings == grid.settings and set(quick.environments) < set(PAPER_ENVIRONMENTS)


def test_games_are_named_in_small_letters_and_shorter_runs_are_kept_apart():
    grid = find_grid("atari").of_steps(2_000_000)
    (cell, other) = cells(grid, environments=("pong",), seeds=(0,))
    assert cell.name == "atari-2000000/Pong/ppo-0" and other.name == "atari-2000000/Pong/a2c-0"
    assert cell.config.steps == 2_000_000 and "--steps 2000000" in cell.command
    assert find_grid("atari").of_steps(10_000_000) is find_grid("atari").of_steps(None)
    # Runs of another grid's are not those of this length either.
    assert cells(find_grid("figure3").of_steps(9_000))[0].grid == "table1-9000"


def test_table_6_is_the_papers():
    # Schulman 2017, table 6: 49 games; Pong 20.7 and Breakout 274.8 for PPO, 19.7 and 303.0 for A2C.
    assert len(GAMES) == 49
    assert [PPO[game].value for game in ("Pong", "Breakout")] == [20.7, 274.8]
    assert [A2C[game].value for game in ("Pong", "Breakout")] == [19.7, 303.0]


def test_what_others_published_stands_beside_the_settings(tmp_path):
    grid = replace(find_grid("atari"), environments=("Pong", "Alien"))
    shown = markdown(summary(grid, tmp_path))
    assert (
        "| PPO of RL Baselines3 Zoo | 21.0 | - |" in shown and "| CleanRL's ppo_atari | 20.4 | - |" in shown
    )
    assert "| PPO | - (20.7) | - (1,850) |" in shown


def test_table_2_is_the_papers():
    # Schulman 2017, table 2: of 49 games, A2C 1, ACER 18, PPO 30, tie 0 over all of training;
    # A2C 1, ACER 28, PPO 19, tie 1 over the last 100 episodes.
    wins = {label: tuple(one.value for one in pair) for label, pair in find_grid("atari").wins.items()}
    assert wins == {"PPO": (30, 19), "A2C": (1, 1), "ACER": (18, 28), "tie": (0, 1)}
    assert [sum(column) for column in zip(*wins.values(), strict=True)] == [49, 49]


def write_games(results, grid, scores):
    """Finished runs: per (game, setting) the (mean over all of training, over the last 100) of each seed."""
    ensure_description(results, grid.name)
    known = read_description(results, grid.name)["options"]
    for (game, setting), seeds in scores.items():
        for cell, (training, last) in zip(cells(grid, [game], [setting]), seeds, strict=False):
            content = {"format": 1, "seed": cell.seed, "configuration": digest(cell.config, known)}
            content |= {"score": last, "training_score": training, "curve": [], "episodes": 200}
            write_json(cell_path(results, cell), content)


def test_games_won_are_counted_as_in_table_2(tmp_path):
    """The mean over the seeds of a game decides, and a game without runs of both algorithms is open.

    | game     | PPO, all of training | A2C            | won by | PPO, last 100 | A2C | won by |
    |----------|----------------------|----------------|--------|---------------|-----|--------|
    | Pong     | (-10 + 2) / 2 = -4   | -5             | PPO    | 20            | 21  | A2C    |
    | Alien    | 800                  | 700            | PPO    | 1500          | 900 | PPO    |
    | Venture  | 0                    | 0              | tie    | 0             | 0   | tie    |
    | Breakout | 90                   | no run         | open   | 200           |     | open   |
    | Qbert    | no run               | no run         | open   |               |     | open   |
    """
    grid = replace(find_grid("atari"), environments=("Pong", "Alien", "Venture", "Breakout", "Qbert"))
    scores = {
        ("Pong", "ppo"): [(-10, 20), (2, 20)],
        ("Pong", "a2c"): [(-5, 21)],
        ("Alien", "ppo"): [(800, 1500)],
        ("Alien", "a2c"): [(700, 900)],
        ("Venture", "ppo"): [(0, 0)],
        ("Venture", "a2c"): [(0, 0)],
        ("Breakout", "ppo"): [(90, 200)],
    }
    write_games(tmp_path, grid, scores)
    numbers = summary(grid, tmp_path)
    won = {
        measure: {label: row["won"] for label, row in rows.items()}
        for measure, rows in numbers["wins"].items()
    }
    assert won == {
        "training_score": {"PPO": 2, "A2C": 0, "ACER": None, "tie": 1, "open": 2},
        "score": {"PPO": 1, "A2C": 1, "ACER": None, "tie": 1, "open": 2},
    }
    shown = markdown(numbers)
    for line in (
        "| setting | over all of training | over the last 100 episodes |",
        "| PPO | 2 (30) | 1 (19) |",
        "| A2C | 0 (1) | 1 (1) |",
        "| ACER | - (18) | - (28) |",
        "| tie | 1 (0) | 1 (1) |",
        "| open | 2 | 2 |",
        "| PPO, all of training | -4.0 | 800 | 0.0 | 90.0 | - |",
        "| A2C | 21.0 (19.7) | 900 (1,142) | 0.0 (0.0) | - (303) | - (10,066) |",
    ):
        assert line in shown
    assert "table 2" in shown


def test_wins_are_counted_only_where_others_published_some(tmp_path):
    assert [grid.name for grid in GRIDS if "wins" in summary(grid, tmp_path)] == ["atari"]
