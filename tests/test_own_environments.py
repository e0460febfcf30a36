"""The environments of `examples/environments`, and the benchmark that trains on them."""

import json

import gymnasium as gym
import numpy as np
import pytest

from benchmarks import own_environments, worker_own_environments
from benchmarks.own_environments import Options, between, cell_path, interval, references, table
from benchmarks.worker_own_environments import ENVIRONMENTS, environment, evaluate
from examples.environments import hotel, inventory, irrigation, thermostat
from proximo.control.presets import RECIPES
from proximo.envs.check import check

every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


@every_environment
def test_the_checker_finds_no_error_in_an_example(name):
    assert [found for found in check(environment(name), steps=200) if found.level == "error"] == []


@every_environment
def test_a_rule_of_thumb_beats_chance_and_the_optimal_policy_both(name, monkeypatch):
    monkeypatch.setattr(worker_own_environments, "EPISODES", 20)
    found = references(name)
    assert found["random"] < found["rule of thumb"]
    assert found["optimal"] is None or found["rule of thumb"] < found["optimal"]


def test_the_optimal_policy_of_the_last_night_asks_what_the_guests_pay(monkeypatch):
    """While rooms are plenty, guests are a x exp(-p / b), and p x guests is largest at p = b."""
    monkeypatch.setattr(hotel, "DAYS", 1)
    policy = hotel.optimal_policy()
    for season, pay in enumerate(hotel.PAY):  # in the last days they pay half more
        observation = {"season": season, "rooms_left": np.array([80.0]), "days_left": np.array([1.0])}
        assert policy(observation) == pytest.approx(1.5 * pay, abs=2.5)


def test_the_optimal_policy_waters_no_field_on_which_nothing_grows(monkeypatch):
    monkeypatch.setattr(irrigation, "growth", lambda day, soil: np.zeros_like(soil))
    policy = irrigation.optimal_policy()
    assert {policy(np.array([day, 10.0, 0.0, 0.0])) for day in range(120)} == {0}


def test_the_optimal_policy_orders_nothing_for_a_sunday_and_something_for_a_saturday():
    policy = inventory.optimal_policy()
    assert (policy(np.array([0.0, 6.0])), policy(np.array([0.0, 5.0]))) == (0, 6)  # 150 pieces for about 140


def test_a_room_without_heating_cools_as_its_walls_say():
    """70 W/K over 600 s and 3 MJ/K take 0.014 of the difference; the half hour costs what it is too cold."""
    room = thermostat.Thermostat()
    room.reset(seed=0)
    room.start, room.steps, room.inside, room.cloud = 72, 0, 18.0, 0.0  # noon
    difference = 18.0 - room.outside()
    observation, reward, terminated, truncated, _ = room.step(np.zeros(1, np.float32))
    assert observation[0] == pytest.approx(18.0 - 0.014 * difference)
    assert reward == pytest.approx(-20.0 * (21.0 - observation[0]))
    assert (terminated, truncated) == (False, False)


def test_an_end_of_the_task_is_terminated_and_an_end_of_watching_truncated():
    ends = {}
    for name in ENVIRONMENTS:
        env, over = environment(name)(), (False, False)
        env.reset(seed=0)
        while not any(over):
            _, _, *over, _ = env.step(env.action_space.sample())
        ends[name] = "terminated" if over[0] else "truncated"
    assert ends == {
        "inventory": "truncated",
        "thermostat": "truncated",
        "job_shop": "truncated",
        "hotel": "terminated",
        "irrigation": "terminated",
    }


def test_a_finished_run_of_the_benchmark_is_never_run_again(tmp_path, monkeypatch, capsys):
    options = Options(steps=100, seeds=2, processes=1, only="inventory", out=tmp_path)
    asked = []

    def record(options, env, library, seed, cores):
        asked.append((library, seed))
        answer = {"evaluation": [1.0, 3.0], "training": [2.0], "seconds": 5.0 + seed}
        cell_path(options, env, library, seed).write_text(json.dumps(answer))

    monkeypatch.setattr(own_environments, "run_cell", record)
    monkeypatch.setattr(
        own_environments, "references", lambda env: dict.fromkeys(("random", "rule of thumb", "optimal"))
    )
    own_environments.run(options)
    assert asked == [("proximo", 0), ("sb3", 0), ("proximo", 1), ("sb3", 1)]  # in turn
    cell_path(options, "inventory", "sb3", 0).unlink()
    own_environments.run(options)
    assert asked[4:] == [("sb3", 0)]
    assert "| inventory | - | - | - | 2 (2 to 2) | 2 (2 to 2) |" in capsys.readouterr().out


def test_the_interval_over_seeds_is_students():
    """Two seeds, 1 and 3: 2 plus or minus 12.706 x 1."""
    assert interval([1.0, 3.0]) == pytest.approx((2.0, -10.706, 14.706), abs=1e-3)
    assert between(interval([1.0]), "{:.1f}") == "1.0"
    assert between(None, "{:.1f}") == "-"


def test_the_table_has_a_dash_where_nothing_was_run():
    row = {"env": "hotel", "random": 1.0, "rule of thumb": 2.0, "optimal": 3.0}
    assert table([row]).splitlines()[-1] == "| hotel | 1 | 2 | 3 | - | - | - | - | - | - |"


def test_the_evaluation_plays_the_same_episodes_for_every_library(monkeypatch):
    monkeypatch.setattr(worker_own_environments, "EPISODES", 2)
    env = gym.make("CartPole-v1")
    assert evaluate(env, lambda observation: 1) == evaluate(env, lambda observation: np.int64(1))


def test_the_recipe_of_ones_own_environments_is_a_candidate_that_ran_on_all_five():
    data = json.loads((own_environments.ROOT / "results/own-environments/recipe.json").read_text())
    (chosen,) = (name for name, options in data["settings"].items() if options == RECIPES["other"])
    assert {run["env"] for run in data["runs"] if run["setting"] == chosen} >= set(ENVIRONMENTS)
