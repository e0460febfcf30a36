"""A sweep tries what it was told to try, keeps what it learned, and says what was best."""

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from probes import BetterAction, small

from proximo import UserError, with_options
from proximo.arguments import config_from, parse_recipe
from proximo.cli import main
from proximo.commands.sweep import Sweep, parse_search_space, recipe_words, trial_config
from proximo.commands.train import Train
from proximo.control import sweep
from proximo.control.study import FIRST_CHECK, Span, finished_trials, open_study
from proximo.control.sweep import sweeping
from proximo.control.sweep_report import outcome, table, text
from proximo.core import Clip
from proximo.errors import EnvironmentFault

BASE = small(BetterAction, steps=100, num_envs=2, horizon=16, minibatch_size=32)
SEARCH = {"learning_rate": Span(1e-4, 1.0, log=True), "gamma": Span(0.5, 0.9), "activation": ("tanh", "relu")}


def with_base(options):
    return with_options(BASE, **options)


def score(config):
    """What stands in for learning: a rate of 0.01 is the best one, and nothing else matters."""
    return -abs(math.log10(config.update.learning_rate) + 2.0) + config.seed


def imitated(monkeypatch, curve=lambda config, share: score(config) * share, sound=lambda config: True):
    """Training that takes no time: four turns of each member, whose return at each is `curve`."""
    trained = []

    def ensemble(configs):
        trained.append(configs)
        for quarter in range(1, 5):
            steps = [config.steps * quarter // 4 for config in configs]
            values = [curve(config, quarter / 4) for config in configs]
            members = zip(configs, steps, values, strict=True)
            yield [
                SimpleNamespace(steps=step, mean_return=value, sound=sound(config))
                for config, step, value in members
            ]

    monkeypatch.setattr(sweep, "ensemble", ensemble)
    return trained


def made(folder, trials, search=SEARCH, seeds=1, base=BASE):
    """A study with that many finished trials."""
    study = open_study(folder / "sweep.db", base, search, seeds)
    for _ in sweeping(study, lambda o: with_options(base, **o), search, trials=trials, seeds=seeds):
        pass
    return study


def told(study):
    """What is remembered of the finished trials."""
    return [(t.user_attrs["options"], t.value, t.state.name) for t in finished_trials(study)]


# ---- trials


def test_a_trial_is_the_mean_of_its_seeds(tmp_path, monkeypatch):
    trained = imitated(monkeypatch)
    study = made(tmp_path, 3, seeds=2)
    assert [[config.seed for config in configs] for configs in trained] == [[0, 1]] * 3
    for trial, (one, other) in zip(finished_trials(study), trained, strict=True):
        options = trial.user_attrs["options"]
        assert list(options) == list(SEARCH)
        assert one == with_base(options) and other == with_options(one, seed=1)
        assert trial.value == pytest.approx((score(one) + score(other)) / 2)
        assert trial.user_attrs["returns"] == pytest.approx([score(one), score(other)])


def test_what_is_tried_lies_in_its_span_and_can_be_typed(tmp_path, monkeypatch):
    imitated(monkeypatch)
    search = {**SEARCH, "epochs": Span(1, 3, whole=True)}
    tried = [options for options, _, _ in told(made(tmp_path, 8, search))]
    for options in tried:
        assert 1e-4 <= options["learning_rate"] <= 1.0 and 0.5 <= options["gamma"] <= 0.9
        assert float(f"{options['gamma']:.4g}") == options["gamma"]
        assert options["activation"] in ("tanh", "relu") and options["epochs"] in (1, 2, 3)
    assert len({options["learning_rate"] for options in tried}) == 8
    assert {options["epochs"] for options in tried} == {1, 2, 3}


def test_a_sweep_that_was_cut_short_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    imitated(monkeypatch)
    whole = told(made(tmp_path / "whole", 7))
    study = open_study(tmp_path / "sweep.db", BASE, SEARCH, 1)
    rows = sweeping(study, with_base, SEARCH, trials=7)
    for row in rows:
        if row.finished == 4:
            break
    rows.close()  # Ctrl-C in the fifth trial
    assert len(finished_trials(study)) == 4
    study.ask()  # and a crash in the one after
    study = made(tmp_path, 7)
    assert told(study) == whole
    states = [trial.state.name for trial in study.get_trials()]
    assert states.count("FAIL") == 2 and "RUNNING" not in states
    made(tmp_path, 7)  # nothing is left to do
    assert len(study.get_trials()) == 9


def test_another_search_in_the_same_file_is_another_study(tmp_path, monkeypatch):
    imitated(monkeypatch)
    made(tmp_path, 2)
    assert len(finished_trials(made(tmp_path, 1, {"gamma": Span(0.5, 0.9)}))) == 1
    assert len(finished_trials(made(tmp_path, 1, seeds=2))) == 1
    assert len(finished_trials(made(tmp_path, 1, base=with_options(BASE, steps=200)))) == 1
    assert len(finished_trials(made(tmp_path, 1))) == 2


# ---- trials that are given up


def test_a_trial_that_lags_is_given_up_but_not_early_and_not_the_first_ones(tmp_path, monkeypatch):
    imitated(monkeypatch)
    trials = finished_trials(made(tmp_path, 10))
    states = [trial.state.name for trial in trials]
    assert states[:5] == ["COMPLETE"] * 5 and "PRUNED" in states[5:]
    for trial in trials:
        if trial.state.name == "PRUNED":
            assert "lagged after" in trial.user_attrs["why"]
            assert FIRST_CHECK <= max(trial.intermediate_values) < sweep.CHECKS


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sound": lambda config: config.network.activation == "tanh"}, "an update diverged"),
        ({"curve": lambda c, share: 1.0 if c.network.activation == "tanh" else math.nan}, "no episode ended"),
    ],
)
def test_a_trial_without_a_value_says_why(tmp_path, monkeypatch, options, why):
    imitated(monkeypatch, **options)
    study = made(tmp_path, 6)
    for trial in finished_trials(study):
        sound = trial.user_attrs["options"]["activation"] == "tanh"
        assert trial.state.name == ("COMPLETE" if sound else "PRUNED")
        assert sound or why in trial.user_attrs["why"]


def test_a_combination_that_cannot_be_is_a_trial_given_up(tmp_path, monkeypatch):
    imitated(monkeypatch)
    search = {"minibatch_size": ("32", "30"), "gamma": Span(0.5, 0.9)}
    study = open_study(tmp_path / "sweep.db", BASE, search, 1)
    typed = lambda options: with_base({n: int(v) if n != "gamma" else v for n, v in options.items()})  # noqa: E731
    assert list(sweeping(study, typed, search, trials=6))
    reasons = {trial.user_attrs.get("why", "") for trial in finished_trials(study)}
    assert len(reasons) == 2 and any("minibatch_size is 30" in reason for reason in reasons)


def test_an_environment_that_fails_ends_the_sweep(tmp_path, monkeypatch):
    def ensemble(configs):
        raise EnvironmentFault("environment 0 failed")
        yield

    monkeypatch.setattr(sweep, "ensemble", ensemble)
    with pytest.raises(EnvironmentFault):
        made(tmp_path, 2)
    (trial,) = open_study(tmp_path / "sweep.db", BASE, SEARCH, 1).get_trials()
    assert trial.state.name == "FAIL"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(trials=0), "trials is 0"),
        (dict(trials=1, seeds=0), "seeds is 0"),
        (dict(trials=1, search={"gamma": Span(0.5, 1.5)}), "gamma is 1.5"),
    ],
)
def test_a_search_that_cannot_be(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        made(tmp_path, **options)


def test_a_path_is_taken_as_it_is(tmp_path):
    # It becomes part of an address, where these would say something else.
    place = tmp_path / "a ?b#c%20d" / "sweep.db"
    open_study(place, BASE, SEARCH, 1)
    assert [path.name for path in tmp_path.iterdir()] == [place.parent.name] and place.stat().st_size > 0


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "sweep.db").write_text("dear diary, " * 100)
    with pytest.raises(UserError, match="cannot be used as the file of a sweep") as caught:
        made(tmp_path, 1)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r'pip install "proximo\[sweep\]"'):
        made(tmp_path, 1)


# ---- what came out


def test_the_outcome_names_the_best_and_what_mattered(tmp_path, monkeypatch):
    imitated(monkeypatch)
    study = made(tmp_path, 16)
    found = outcome(study, SEARCH, lambda options: ["proximo", "train", str(options["learning_rate"])])
    values = [trial["value"] for trial in found["trials"] if trial["value"] is not None]
    assert values == sorted(values, reverse=True) and found["best"]["value"] == values[0]
    assert len(found["trials"]) == 16 and found["trials"][-1]["value"] is None
    assert found["best"]["command"] == f"proximo train {found['best']['options']['learning_rate']}"
    assert found["importance"]["learning_rate"] > 0.5
    assert sum(found["importance"].values()) == pytest.approx(1.0)
    said = text(found, "A title")
    assert said.startswith("# A title\n") and found["best"]["command"] in said and "lagged after" in said
    json.dumps(found, allow_nan=False)


def test_the_outcome_of_nothing(tmp_path):
    study = open_study(tmp_path / "sweep.db", BASE, SEARCH, 1)
    found = outcome(study, SEARCH, lambda options: [])
    assert found["best"] is None and found["trials"] == [] and found["importance"] == {}
    assert "No trial has finished yet" in text(found, "A title")


def test_a_table_by_hand():
    assert table([["a", "b|c"], ["10", ""]]) == "| a  | b\\|c |\n| -- | ---- |\n| 10 |      |"


# ---- what is typed


def test_what_can_be_varied():
    vary = (
        "learning_rate=1e-5:1e-3:log",
        "num-envs=2:8",
        "objective=clip:0.1|clip:0.2",
        "hidden=64 64|8",
        "anneal=true|false",
        "vf-coef=0.1:1",
    )
    assert parse_search_space(vary, []) == {
        "learning_rate": Span(1e-5, 1e-3, log=True),
        "num_envs": Span(2, 8, whole=True),
        "objective": ("clip:0.1", "clip:0.2"),
        "hidden": ("64 64", "8"),
        "anneal": ("true", "false"),
        "value_coefficient": Span(0.1, 1.0),
    }
    options = {"learning_rate": 1e-05, "objective": "clip:0.1", "hidden": "8 8", "anneal": "false"}
    config = trial_config(["CartPole-v1", "--steps", "99"], {**options, "initial_log_std": -1e-05})
    assert (config.steps, config.update.learning_rate, config.update.objective) == (99, 1e-05, Clip(0.1))
    assert (config.network.hidden, config.update.anneal) == ((8, 8), False)
    assert config.network.initial_log_std == -1e-05


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ([], "pass --vary"),
        (["gamma"], "is neither OPTION=LOW:HIGH"),
        (["gama=0.9:0.99"], "'gama' is not an option that can be varied"),
        (["seed=1:9"], "'seed' is not an option that can be varied"),
        (["network=1|2"], "there is no '1'"),
        (["gamma=0.9"], "write it as gamma=LOW:HIGH or LOW:HIGH:log"),
        (["gamma=0.9:0.99:exp"], "write it as gamma=LOW:HIGH"),
        (["gamma=0.99:0.9"], "LOW must be below HIGH"),
        (["learning_rate=1e-5:inf"], "LOW and HIGH must be finite"),
        (["learning_rate=nan:1e-3"], "LOW and HIGH must be finite"),
        (["gamma=0:0.9:log"], "above 0 for `log`"),
        (["gamma=a:b"], "could not convert string to float"),
        (["epochs=1:2.5"], "'2.5' is not a whole number"),
        (["activation=tanh"], "write it as activation=ONE|OTHER"),
        (["activation=tanh|tanh"], "the choices must differ"),
        (["anneal=yes|no"], "the choices are true and false"),
        (["gamma=0.8:0.9", "gamma=0.9:0.99"], "gamma is given twice"),
        (["steps=1:2"], "'steps' is not an option that can be varied"),
        (["activation=tanh|sine"], "sine"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, vary, message):
    words = [word for one in vary for word in ("--vary", one)]
    assert main(["sweep", "CartPole-v1", *words, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_an_option_is_varied_or_set():
    with pytest.raises(UserError, match="gamma is given twice"):
        parse_search_space(("gamma=0.8:0.9",), ["CartPole-v1", "--gamma", "0.9"])


def test_the_words_that_say_how_to_train():
    own = ["--trials", "3", "--vary=gamma=0.8:0.9", "--json", "--storage", "a.db", "--out=b", "--seeds", "2"]
    train = ["CartPole-v1", "--steps", "10", "--no-anneal"]
    assert recipe_words([*train[:1], *own, *train[1:], "--quiet"]) == train
    assert parse_recipe(Sweep, "sweep", [*train, *own]).vary == ("gamma=0.8:0.9",)


# ---- the command

QUICK = [
    *("CartPole-v1", "--steps", "128", "--num-envs", "2", "--horizon", "32", "--minibatch-size", "64"),
    *("--epochs", "1", "--hidden", "4"),
]


def test_the_command(tmp_path, capsys):
    vary = ["--vary", "learning_rate=1e-4:1e-2:log", "--vary", "objective=clip:0.1|unclipped"]
    words = ["sweep", *QUICK, *vary, "--seeds", "2", "--out", str(tmp_path), "--json"]
    assert main([*words, "--trials", "1"]) == 0
    said = capsys.readouterr()
    first = json.loads(said.out)
    assert len(first["trials"]) == 1 and first["best"]["value"] > 8
    # The same command goes on.
    assert main([*words, "--trials", "2", "--quiet"]) == 0
    said = capsys.readouterr()
    second = json.loads(said.out)
    assert said.err == "" and len(second["trials"]) == 2
    assert {trial["number"] for trial in first["trials"]} < {trial["number"] for trial in second["trials"]}
    # What was best can be typed.
    typed = shlex.split(second["best"]["command"])
    assert typed[:2] == ["proximo", "train"]
    config = config_from(parse_recipe(Train, "train", typed[2:]))
    assert config.update.learning_rate == second["best"]["options"]["learning_rate"] and config.steps == 128
    assert second["best"]["command"] in (tmp_path / "sweep.md").read_text()


def test_an_interrupt_loses_the_trial_under_way_alone(tmp_path):
    words = ["sweep", *QUICK, "--steps", "100000000", "--vary", "gamma=0.8:0.9", "--out", str(tmp_path)]
    words.remove("128")
    words.remove("--steps")
    process = subprocess.Popen(
        [sys.executable, "-m", "proximo", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while "steps/s" not in process.stderr.readline():  # a first turn is over
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert json.loads(out)["trials"] == [] and (tmp_path / "sweep.md").exists()
