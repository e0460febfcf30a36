"""Evaluation plays whole episodes, as many as were asked for, and says how sure their mean is."""

import json

import numpy as np
import pytest
from probes import Endless, Probe, small, walk

import proximo
from proximo import Evaluation, evaluate, training
from proximo.cli import main
from proximo.control.bench import bench
from proximo.control.evaluate import summary
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault, UserError

# Agents of the plainest probe play all the others here.
pytestmark = pytest.mark.filterwarnings("ignore::proximo.errors.EnvironmentDiffers")


@pytest.fixture(scope="module")
def agent():
    """Anything that acts on one number with two actions."""
    return next(training(small(Probe, num_envs=2, minibatch_size=32, epochs=1))).agent


def test_a_summary_by_hand():
    # Returns 1 2 3 4: mean 2.5, std sqrt(5/3) = 1.290994; t(0.975, 3) = 3.182446
    # half the interval is 3.182446 * 1.290994 / sqrt(4) = 2.054260
    found = summary([1.0, 2.0, 3.0, 4.0], [10, 10, 10, 10])
    assert found == Evaluation(
        mean=2.5,
        std=pytest.approx(1.290994, rel=1e-6),
        low=pytest.approx(2.5 - 2.054260, rel=1e-6),
        high=pytest.approx(2.5 + 2.054260, rel=1e-6),
        episodes=4,
        returns=[1.0, 2.0, 3.0, 4.0],
        lengths=[10, 10, 10, 10],
        interval="Student's t",
    )
    assert summary([7.0], [3]).low == summary([7.0], [3]).high == 7.0


class Numbered(Probe):
    """Episode k, counted from 1, has k steps and the return k; so has every environment."""

    episode = 0

    def begin(self):
        self.episode += 1
        self.clock = 0

    def turn(self, action):
        self.clock += 1
        over = self.clock == self.episode
        return 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1


def test_episodes_are_shared_out_evenly(agent):
    # 20 over 16 environments: two in the first four, one in the others. Seams count as no step.
    found = evaluate(agent, Numbered, episodes=20)
    assert found.returns == [1.0, 2.0] * 4 + [1.0] * 12
    assert found.lengths == [1, 2] * 4 + [1] * 12
    assert found.episodes == 20 and found.mean == pytest.approx(24 / 20)


def test_few_episodes_take_few_environments(agent):
    assert evaluate(agent, Numbered, episodes=3).returns == [1.0, 1.0, 1.0]


def test_the_seed_decides(agent):
    class Random(Probe):
        def turn(self, action):
            return self.np_random.normal(), True, False

    a, b, c = (evaluate(agent, Random, episodes=5, seed=seed).returns for seed in (0, 0, 1))
    assert a == b != c
    assert len(set(a)) == 5  # each environment has a seed of its own


def test_sampled_actions_vary_and_the_most_likely_do_not(agent):
    class Counting(Probe):
        def turn(self, action):
            return float(action), True, False

    assert len(set(evaluate(agent, Counting, episodes=40, deterministic=False).returns)) == 2
    assert len(set(evaluate(agent, Counting, episodes=40).returns)) == 1


def test_on_all_cores_the_returns_are_the_same(monkeypatch):
    # Reacher-v5 is trained on all cores by `default`, hence played on them; 5 environments, 50 steps each.
    made = []

    def noted(*arguments, **options):
        made.append(options.get("vectorization_mode"))
        return make_envs(*arguments, **options)

    monkeypatch.setattr("proximo.control.evaluate.make_envs", noted)
    player = next(training(small("Reacher-v5", num_envs=2, minibatch_size=32, epochs=1))).agent
    spread = evaluate(player, episodes=7, deterministic=False)
    assert spread == evaluate(player, episodes=7, deterministic=False, vectorization_mode="sync")
    assert made == ["parallel", "sync"] and set(spread.lengths) == {50}


def test_an_environment_that_fails_ends_it(agent, monkeypatch):
    # It fails once, in its third step. Training would make it anew and go on; half an episode is no sample.
    failed = []

    class FailsOnce(Endless):
        def turn(self, action):
            if self.clock == 2 and not failed:
                failed.append(True)
                raise RuntimeError("out of oil")
            return super().turn(action)

    monkeypatch.setattr("proximo.control.evaluate.recipe", lambda env: {"vectorization_mode": "auto"})
    with pytest.raises(EnvironmentFault, match="out of oil"):
        evaluate(agent, FailsOnce, episodes=2)
    assert evaluate(agent, FailsOnce, episodes=2).returns == [5.0, 5.0]


def test_what_is_not_finite_is_named_not_averaged(agent):
    class Broken(Endless):
        def turn(self, action):
            reward, *ends = super().turn(action)
            return (np.nan if self.clock == 3 else reward), *ends

    with pytest.raises(EnvironmentFault, match="environment 0 returned nan in its reward at step 3,"):
        evaluate(agent, Broken, episodes=2)


# ---- until the interval is narrow


class Noise(Probe):
    """Returns are standard normal."""

    def turn(self, action):
        return self.np_random.normal(), True, False


def width(found):
    return found.high - found.low


def test_rounds_go_on_until_the_interval_is_narrow(agent):
    # Half the interval is about 1.96 / sqrt(n): it is narrower than 0.5 from n = 62 on, give or take.
    found = evaluate(agent, Noise, episodes=10, until_width=0.5)
    assert 30 < found.episodes < 130 and found.episodes % 10 == 0
    assert width(found) < 0.5 <= width(evaluate(agent, Noise, episodes=found.episodes - 10))


def test_a_later_round_is_as_one_large_evaluation(agent):
    rounds = evaluate(agent, Numbered, episodes=20, until_width=1e-9, max_episodes=50)
    assert rounds == evaluate(agent, Numbered, episodes=50)
    sampled = dict(deterministic=False, seed=3)
    rounds = evaluate(agent, Noise, episodes=20, until_width=1e-9, max_episodes=35, **sampled)
    assert rounds == evaluate(agent, Noise, episodes=35, **sampled)


def test_one_episode_is_no_interval(agent):
    assert evaluate(agent, Probe, episodes=1, until_width=0.1).episodes == 2  # both returns are 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until_width": 0.0}, "until_width is 0.0: it must be above 0"),
        ({"until_width": float("nan")}, "until_width is nan: it must be above 0"),
        ({"until_width": 1.0, "max_episodes": 50}, "max_episodes is 50: it must be at least episodes, 100"),
    ],
)
def test_an_impossible_width_is_refused(agent, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(agent, Probe, **options)


# ---- which seed gave which return


def test_every_return_has_the_seed_of_its_environment(agent):
    class SeedSeen(Probe):
        def reset(self, *, seed=None, options=None):
            self.given = self.given if seed is None else seed
            return super().reset(seed=seed)

        def turn(self, action):
            return self.given, True, False

    found = evaluate(agent, SeedSeen, episodes=20, seed=5)
    assert found.returns == [float(seed) for seed in found.environment_seeds]
    assert len(set(found.environment_seeds)) == 16
    assert (found.seed, found.deterministic) == (5, True)


# ---- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    options = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, steps=32, hidden=(4,))
    return proximo.train("Pendulum-v1", out=tmp_path_factory.mktemp("run") / "run", **options)


def test_the_command_writes_what_it_says(run, tmp_path, capsys):
    words = ["evaluate", str(run.folder), "--episodes", "2", "--seed", "7", "--sampled", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert not (run.folder / "evaluation.json").exists()
    assert main([*words, "--save", "--out", str(tmp_path / "also.json")]) == 0
    for path in (run.folder / "evaluation.json", tmp_path / "also.json"):
        assert json.loads(path.read_text()) == said
    assert said["seed"] == 7 and said["deterministic"] is False and len(said["returns"]) == 2
    assert proximo.load(run.folder).name == "Pendulum-v1"


def test_an_interval_that_stays_wide_is_said(run, capsys):
    words = ["--episodes", "2", "--until-width", "0.001", "--max-episodes", "3"]
    assert main(["evaluate", str(run.folder), *words]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 episodes") and "raise --max-episodes" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save"], "use --out FILE"),
        (["--out", "nowhere/at/all.json"], "there is no folder nowhere/at"),
        (["--out", "."], "it is a folder"),
        (["--out", "/"], "it is a folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_played(run, capsys, words, message):
    assert main(["evaluate", str(run.folder / "model"), "--episodes", "1000000", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_impossible_number_of_episodes_is_refused(agent):
    with pytest.raises(UserError, match="episodes is 0"):
        evaluate(agent, Probe, episodes=0)


def test_an_environment_with_other_spaces_is_not_played(agent):
    with pytest.raises(UserError):
        evaluate(agent, walk("Discrete"), episodes=1)


def test_a_bench_measures_every_part():
    rates = bench(small(Probe, num_envs=2, minibatch_size=32, epochs=1), repeats=1)
    for name in ("env_only", "act", "collect", "update", "loop"):
        assert np.isfinite(getattr(rates, name)) and getattr(rates, name) > 0, name
    assert rates.floor_share == rates.loop / rates.env_only
    # A part takes no longer than what contains it; a factor of 3 for a busy machine.
    assert rates.loop < 3 * rates.collect


def test_what_is_printed_of_it():
    # Mean 2, std 1, Student's t for 2 degrees of freedom 4.3027: 2 -+ 4.3027 / sqrt(3) = 2 -+ 2.48.
    assert str(summary([1.0, 2.0, 3.0], [10, 20, 30])) == (
        "3 episodes: mean return 2.00 (95% interval -0.48 to 4.48, Student's t), std 1.00, mean length 20.0"
    )
