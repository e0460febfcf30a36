"""An environment of the user's own on the command line: a class or a function, in a file or a module."""

import json
import shlex
import sys

import pytest

import proximo
from proximo.cli import main
from proximo.errors import EnvironmentNotNamed

SHOP = '''
import gymnasium as gym
import numpy as np


class ShopOfMine(gym.Env):
    """A customer for SIZE steps; the right one of two buttons is worth 1."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, size=5, render_mode=None):
        self.size, self.render_mode = size, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.clock += 1
        return np.zeros(1, np.float32), float(action), self.clock >= self.size, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def small_shop(size=2, render_mode=None):
    return ShopOfMine(size, render_mode)
'''
QUICK = ["--steps", "64", "--horizon", "8", "--minibatch-size", "64", "--epochs", "1", "--quiet"]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The working folder, with `shop_of_mine.py` in it, which no other test has imported."""
    (tmp_path / "shop_of_mine.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget(monkeypatch)
    yield tmp_path
    sys.modules.pop("shop_of_mine", None)


def forget(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr("proximo.envs.make._named", {})
    sys.modules.pop("shop_of_mine", None)


def test_the_line_after_several_seeds_names_the_environment_too(shop, capsys):
    assert main(["train", "shop_of_mine:small_shop", *QUICK, "--seeds", "2", "--out", "runs"]) == 0
    assert capsys.readouterr().out.endswith("next: proximo evaluate runs --env shop_of_mine:small_shop\n")


@pytest.mark.parametrize("env", ["shop_of_mine.py:ShopOfMine", "shop_of_mine:small_shop"])
def test_a_class_or_a_function_is_trained_evaluated_and_resumed_by_its_file_or_module(
    shop, capsys, monkeypatch, env
):
    assert main(["train", env, *QUICK, "--out", "run", "--env-kwargs", "size=3"]) == 0
    assert capsys.readouterr().out.endswith(f"next: proximo evaluate run --env {env}\n")
    config = json.loads((shop / "run" / "config.json").read_text())
    assert (config["env"], config["env_source"]) == (env.partition(":")[2], env)
    # Each refusal has the line to paste; pasted, it works, with the arguments of the run.
    for words, whole in (
        ("evaluate run --episodes 2 --json", f"evaluate run --episodes 2 --json --env {env}"),
        ("evaluate run/model --episodes 2 --json", f"evaluate run/model --episodes 2 --json --env {env}"),
        ("watch run --video a.gif --json", f"watch run --video a.gif --json --env {env}"),
        (
            "train --resume run --steps 128 --json --quiet",
            f"train {env} --resume run --steps 128 --json --quiet",
        ),
    ):
        forget(monkeypatch)
        assert main(words.split()) == 2
        told = f"{config['env']} needs code of your own, which no run imports by itself"
        line = f"proximo {words.split()[0]}: {told}; type: proximo {whole}\n"
        assert capsys.readouterr().err == line
        assert "shop_of_mine" not in sys.modules
        assert main(whole.split()) == 0
        said = json.loads(capsys.readouterr().out)
        assert said.get("lengths", [3, 3]) == [3, 3]
    assert main(f"evaluate run --env {env} --env-kwargs size=4 --episodes 1 --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["lengths"] == [4]


def test_the_other_commands_take_a_class_too(shop, capsys):
    assert main(["check", "shop_of_mine.py:ShopOfMine", "--steps", "20", "--env-kwargs", "size=4"]) == 0
    assert "no errors" in capsys.readouterr().out
    assert main(["bench", "shop_of_mine:ShopOfMine", "--repeats", "1", "--epochs", "1", "--json"]) == 0
    capsys.readouterr()
    assert main(["train", "shop_of_mine:ShopOfMine", *QUICK, "--seeds", "2", "--json"]) == 0
    assert [row["run"].startswith("runs/ShopOfMine-") for row in json.loads(capsys.readouterr().out)] == [
        True
    ] * 2


def test_a_class_by_its_name_may_step_in_processes_of_its_own(shop):
    from proximo.envs import make_envs

    options = {"vectorization_mode": "async", "allow_import": True}
    with make_envs("shop_of_mine.py:ShopOfMine", 1, **options) as envs:
        assert len(envs.vector.workers) == 1


def test_python_is_told_the_line_too_and_a_run_knows_its_own_environment(shop, monkeypatch):
    env = "shop_of_mine.py:ShopOfMine"
    quick = {"steps": 64, "horizon": 8, "minibatch_size": 64, "epochs": 1, "out": "run"}
    run = proximo.train(env, allow_import=True, **quick)
    assert run.evaluate(episodes=1).lengths == [5]  # it was named in this process
    forget(monkeypatch)
    with pytest.raises(
        EnvironmentNotNamed, match=rf"env='{env}', allow_import=True, on the command line with --env"
    ):
        proximo.evaluate(proximo.load(run.folder), episodes=1)
    assert proximo.evaluate(proximo.load(run.folder), env, allow_import=True, episodes=1).lengths == [5]


def test_what_stands_in_the_file_of_a_run_is_text_that_nothing_imports(shop, capsys, monkeypatch):
    assert main(["train", "shop_of_mine:ShopOfMine", *QUICK, "--out", "run"]) == 0
    forget(monkeypatch)
    path = shop / "run" / "config.json"
    for text, shown in (
        ("shop_of_mine:x; rm -rf ~", "'shop_of_mine:x; rm -rf ~'"),
        ("a\nb", "FILE.py:NAME"),
        (3, "FILE"),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"env_source": text}))
        capsys.readouterr()
        assert main(["evaluate", "run"]) == 2
        said = capsys.readouterr().err
        assert f"proximo evaluate run --env {shown}" in said and said.count("\n") == 1  # quoted for a shell
        assert "shop_of_mine" not in sys.modules


def test_a_report_shows_the_command_that_names_the_environment(shop):
    from proximo.rerun import policy_commands
    from proximo.runs.report import read_run

    words = ["train", "--env-kwargs", "size=3", "shop_of_mine.py:ShopOfMine", *QUICK]
    assert main([*words, "--out", "run"]) == 0
    (line,) = policy_commands([read_run(shop / "run")]).lines
    begun = "proximo train shop_of_mine.py:ShopOfMine --env-kwargs size=3"
    assert line.startswith(begun) and "--out" not in line


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("shop_of_mine.py:Shop", "did you mean shop_of_mine.py:ShopOfMine"),
        ("shop_of_mine.py:np", "shop_of_mine.py:np is an object of module: name its class"),
        ("shop_of_mine.py", "name the class or the function in it, shop_of_mine.py:ShopOfMine"),
        ("shop_of_mine", "name the class or the function in it, shop_of_mine.py:ShopOfMine"),
        ("shop.py:ShopOfMine", "there is no file shop.py"),
    ],
)
def test_a_wrong_name_of_a_class_is_one_line_with_the_right_one(shop, capsys, env, message):
    assert main(["train", env]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(shop.glob("runs/*")) == []


def test_a_run_of_a_lambda_or_a_local_class_has_a_name_that_a_shell_can_read(tmp_path, monkeypatch):
    import gymnasium as gym

    monkeypatch.chdir(tmp_path)

    class Local(gym.Wrapper):
        def __init__(self):
            super().__init__(gym.make("CartPole-v1"))

    quick = {"steps": 64, "horizon": 8, "minibatch_size": 64, "epochs": 1}
    for env, name in ((lambda: gym.make("CartPole-v1"), "lambda-0-"), (Local, "Local-0-")):
        folder = proximo.train(env, **quick).folder
        assert folder.name.startswith(name) and shlex.quote(folder.name) == folder.name
