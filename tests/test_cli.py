"""The command line, as a user meets it: real environments, exit statuses, one line for each mistake."""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import proximo
from proximo.arguments import keyword_arguments
from proximo.cli import main
from proximo.control.config import Config
from proximo.options import flat_options
from proximo.runs.sealed import manifest
from tests.quick import AS_A_USER_HAS_IT

# What it takes to be quick, on top of CartPole's own recipe.
QUICK = ["--steps", "2048", "--epochs", "2", "--quiet"]

MODULE = '''
import gymnasium as gym
import numpy as np


class Odd(gym.Env):
    """In its third step it raises, or returns NaN: a model of what users' environments do."""

    action_space = gym.spaces.Discrete(1)
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, how="raise"):
        self.how, self.clock = how, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.clock += 1
        if self.clock == 3 and self.how == "raise":
            raise ZeroDivisionError("no denominator")
        reward = np.nan if self.clock == 3 and self.how == "nan" else 1.0
        return np.zeros(1, np.float32), reward, False, False, {}


for how in ("raise", "nan", "well"):
    gym.register(f"Odd-{how}-v0", Odd, kwargs={"how": how})
'''


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """A folder with a module of the user's own environments in it."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "odd_environments.py").write_text(MODULE)
    return folder


def command(*words, cwd=None, path=None, **variables):
    """The command in a process of its own."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {}) | variables
    return subprocess.Popen(
        [sys.executable, "-m", "proximo", *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run on CartPole-v1, and what the command said at its end."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    process = command(
        "train", "CartPole-v1", "--steps", 4096, "--json", "--quiet", "--out", folder, **AS_A_USER_HAS_IT
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""  # quiet
    return folder, json.loads(out)


# ---- what goes well


def test_train_in_json(trained):
    folder, said = trained
    assert sorted(said) == ["ep_rew_mean", "run", "seconds", "steps", "steps_per_second"]
    # 8 x 128 rows an iteration, less the seams; it ends with the iteration that reaches 4096.
    assert said["run"] == str(folder) and 4096 <= said["steps"] < 4096 + 1024
    assert 9 < said["ep_rew_mean"] <= 500
    assert proximo.load(folder).name == "CartPole-v1"


def test_evaluate_twice(trained, capsys):
    folder, _ = trained
    said = []
    for _ in range(2):
        assert main(["evaluate", str(folder), "--episodes", "20", "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    names = ["episodes", "high", "lengths", "low", "mean", "returns", "std"]
    assert sorted(said[0]) == sorted(
        [*names, "deterministic", "environment_seeds", "interval", "seed", "success_rate"]
    )
    assert said[0]["episodes"] == len(said[0]["returns"]) == 20
    assert main(["evaluate", str(folder / "model"), "--episodes", "20", "--sampled", "--seed", "1"]) == 0
    assert "20 episodes: mean return" in capsys.readouterr().out


def test_bench(capsys):
    words = ["--repeats", "1", "--epochs", "2", "--network", "gru:4", "--json"]  # with a memory, too
    assert main(["bench", "CartPole-v1", *words]) == 0
    rates = json.loads(capsys.readouterr().out)
    # More parts may come; these stay.
    assert {"act", "collect", "env_only", "floor_share", "loop", "update"} <= set(rates)
    assert all(value > 0 for value in rates.values())


def test_check(capsys):
    assert main(["check", "CartPole-v1", "--steps", "100"]) == 0
    assert capsys.readouterr().out.endswith("no errors\n")
    assert main(["check", "CartPole-v1", "--steps", "100", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


@pytest.mark.parametrize(
    "words",
    ["--help", "train --help", "check CartPole-v1 --steps 10"],
)
def test_a_reader_that_has_left_costs_nothing(words):
    """As `proximo train --help | head -1`: no word about it, and the exit status of SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "proximo", *words.split()]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_run_without_a_reader_goes_on_to_its_end(tmp_path):
    """As `proximo train ... 2>&1 | head -1`: neither its lines nor its result find a reader."""
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "proximo", "train", "CartPole-v1", *QUICK[:-1], "--out", tmp_path / "run"]
    done = subprocess.run(line, stdout=write, stderr=write, env=buffered(), check=False)
    os.close(write)
    assert done.returncode == 141
    assert proximo.load(tmp_path / "run").name == "CartPole-v1"


def test_a_line_of_standard_error_that_nobody_reads_does_not_change_the_status():
    """What is left in its buffer is flushed when Python ends, and would fail there: status 120."""
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from proximo.cli import main; sys.stderr.write('half'); sys.exit(main(['--help']))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=write, env=buffered(), check=False
    )
    os.close(write)
    assert done.returncode == 141


def buffered():
    """The environment of a process whose streams have buffers, which PYTHONUNBUFFERED takes away."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("proximo.runs.progress.LINE_SECONDS", 0.0)
    words = ["train", "CartPole-v1", *QUICK[:-1], "--out", str(tmp_path / "run")]
    assert main(words) == 0
    said = capsys.readouterr()
    spaces, first, *later = said.err.splitlines()
    assert spaces == "observation: 4 numbers; action: 1 of 2 choices"
    # The first line of progress has compilation in it: no speed is told yet.
    assert first.startswith("CartPole-v1: ") and "return" in first and len(later) == 2
    assert all("steps/s" in line and "s left" in line for line in later)
    assert f"next: proximo evaluate {tmp_path / 'run'}" in said.out


def test_a_module_of_the_users_own(module, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(module)
    words = ["train", "odd_environments:Odd-well-v0", "--steps", "64", "--horizon", "8", "--quiet"]
    assert main([*words, "--minibatch-size", "64", "--out", str(tmp_path / "run")]) == 0
    # A model names its environment, but never a module: what is read from a file imports nothing.
    assert proximo.load(tmp_path / "run").name == "Odd-well-v0"
    assert "odd_environments" not in (tmp_path / "run" / "model" / "model.json").read_text()


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "\n  train ENV " in capsys.readouterr().out
    for name in ("train", "evaluate", "bench", "check"):
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert not end.value.code
        assert f"proximo {name}" in capsys.readouterr().out
    assert main(["--version"]) == 0


def test_the_help_says_what_a_newcomer_needs_by_subject_and_unit(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for said in (
        "ENV] A Gymnasium id, or your own environment: `file.py:Class`",
        "--max-time SECONDS Stop with a checkpoint before this many seconds have passed.",
        "--checkpoint-every SECONDS Seconds between checkpoints.",
        "--seed INT Random seed.",
        "--learning-rate FLOAT Adam's learning rate",
        "Above 0. Also --lr. (default: 0.0003)",
    ):
        assert said in text, said
    headings = ["environment options", "algorithm options", "network options", "logging options"]
    assert all(heading in text for heading in headings)
    assert "{None}" not in text and "default: ENV" not in text


@pytest.mark.parametrize("name", ["train", "evaluate", "report"])
def test_the_help_states_a_default_once(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    told = re.findall(r"[Bb]y default ((?:(?!--).)*)", text)
    assert told and not any("(default: none)" in one for one in told)


def test_the_help_of_train_shows_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["train", "CartPole-v1", "--help"])
    text = capsys.readouterr().out
    for name in sorted(set(flat_options(Config)) - {"env"}):
        assert f"--{name.replace('_', '-')}" in text, name
    # The defaults shown are those of the environment's recipe.
    assert "0.001" in text[text.index("--learning-rate") :][:200]


# ---- other libraries' command lines


def config_of(tmp_path, name, *words):
    folder = tmp_path / name
    assert main(["train", *words, "--quiet", "--out", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    del config["command"]  # as it was typed
    return config


def test_known_command_lines_mean_the_same(tmp_path, capsys):
    ours = [
        *("CartPole-v1", "--steps", "128", "--num-envs", "2", "--horizon", "64", "--epochs", "2"),
        *("--minibatch-size", "32", "--learning-rate", "0.001", "--no-anneal", "--clip", "0.1"),
        *("--entropy-coefficient", "0.01", "--value-coefficient", "0.7", "--seed", "4"),
    ]
    cleanrl = [
        *("--env-id", "CartPole-v1", "--total-timesteps", "128", "--num-envs", "2", "--num-steps", "64"),
        *("--update-epochs", "2", "--num-minibatches", "4", "--learning-rate", "0.001", "--no-anneal-lr"),
        *("--clip-coef", "0.1", "--no-track", "--ent-coef", "0.01", "--vf-coef", "0.7", "--seed", "4"),
    ]
    underscores = [
        *("--env_id=CartPole-v1", "--n_timesteps=128", "--n_envs=2", "--n_steps=64", "--n_epochs=2"),
        *("--batch_size=32", "--learning_rate=0.001", "--no-anneal-lr", "--clip_range=0.1"),
        *("--ent_coef=0.01", "--vf_coef=0.7", "--seed=4"),
    ]
    expected = config_of(tmp_path, "ours", *ours)
    assert expected["update"]["objective"] == {"name": "Clip", "epsilon": 0.1}
    assert config_of(tmp_path, "cleanrl", *cleanrl) == expected
    assert config_of(tmp_path, "under_scores", *underscores) == expected


def test_a_value_with_underscores_or_an_equals_sign_stays_as_it_is(tmp_path):
    words = [*("CartPole-v1", "--steps", "64", "--horizon", "8", "--minibatch-size=64", "--epochs=1")]
    folder = tmp_path / "my_run"
    said = main(["train", *words, "--quiet", f"--out={folder}", "--value-loss", "huber:delta=2"])
    assert said == 0 and folder.is_dir()
    config = json.loads((folder / "config.json").read_text())
    assert config["update"]["value_loss"] == {"name": "Huber", "delta": 2.0}


# ---- mistakes: exit status 2, and one line that says what to do


def mistake(capsys, *words):
    """The one line on standard error."""
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert said.err.startswith(f"proximo {words[0]}: ")
    return said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no environment given: name it first, as in proximo train CartPole-v1"),
        (["CartPol-v1"], "did you mean CartPole-v1"),
        (["nowhere_at_all:Env-v0"], "cannot import nowhere_at_all"),
        (["CartPole-v1", "--gama", "0.9"], "--gamma"),
        (["CartPole-v1", "--gamma", "3"], "gamma is 3"),
        (["CartPole-v1", "--gamma", "much"], "much"),
        (["CartPole-v1", "--minibatch-size", "100000"], "take at most 1024"),
        (["CartPole-v1", "--minibatch-size", "100"], "take 32, 64 or 128"),
        (["CartPole-v1", "--num-minibatches", "7"], "it must divide the batch size, 1024"),
        (["CartPole-v1", "--num-envs", "0"], "num_envs is 0"),
        (["CartPole-v1", "--steps", "-5"], "steps is -5"),
        (["CartPole-v1", "--clip", "0"], "epsilon is 0"),
        (["CartPole-v1", "--objective", "clap"], "take one of clip, unclipped, policy-gradient"),
        (["CartPole-v1", "--value-loss", "huber:sigma=2"], "it has delta"),
        (["CartPole-v1", "--preset", "papers"], "papers"),
        (["CartPole-v1", "Acrobot-v1"], "Acrobot-v1"),
        (["CartPole-v1", "--activation", "sine"], "sine"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, words, message):
    assert message in mistake(capsys, "train", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()  # nothing to clear away before the next try


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "RUN", "--seed", "-1"], "seed is -1"),
        (["watch", "RUN", "--seed", "-1", "--video", "a.gif"], "seed is -1"),
        (["watch", "RUN", "--fps", "-5", "--video", "a.gif"], "fps is -5"),
        (["check", "CartPole-v1", "--seed", "-1"], "seed is -1"),
        (["bench", "CartPole-v1", "--repeats", "0"], "repeats is 0"),
        (["bench", "CartPole-v1", "--preset", "cem"], "cem has no separate update to measure"),
        (["train", "--resume", "RUN", "--steps", "9999", "--out", "/proc/nowhere"], "cannot write in"),
    ],
)
def test_mistakes_of_other_commands_are_one_line_too(trained, capsys, words, message):
    assert message in mistake(capsys, *[str(trained[0]) if word == "RUN" else word for word in words])


def test_a_run_without_a_model_yet_is_a_run(trained, tmp_path, capsys):
    folder = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    shutil.rmtree(folder / "model")
    assert main(["evaluate", str(folder), "--episodes", "2", "--save"]) == 0
    assert (folder / "evaluation.json").exists()
    checkpoint = next((folder / "checkpoints").iterdir())
    assert main(["evaluate", str(checkpoint), "--episodes", "2"]) == 0


def test_an_unknown_command_is_answered_with_the_nearest_one(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "proximo: there is no command 'trian': did you mean train?\n"
    assert main(["xyz"]) == 2
    assert "there is no command 'xyz': take one of train, evaluate" in capsys.readouterr().err
    assert main(["--debug", "train"]) == 2
    assert "the command comes before its options" in capsys.readouterr().err
    assert main([]) == 2


def test_help_and_version_are_answered_in_every_customary_form(capsys):
    for words in (["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("usage: proximo COMMAND")
    with pytest.raises(SystemExit):
        main(["help", "check"])
    assert capsys.readouterr().out.startswith("usage: proximo check")
    for words in (["--version"], ["-V"], ["version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"{proximo.__version__}\n" == f"{version('proximo')}\n"


def test_the_overview_loads_no_numerical_library():
    """So `proximo` and `proximo --help` answer at once."""
    code = "import sys; from proximo.cli import main; main(['--help']); main(['--version']); main(['trian'])"
    code += "; import proximo; proximo.__version__; print({'jax', 'numpy', 'tyro', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_tab_key_completes_commands_options_and_choices_in_bash(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    asked = [
        "proximo tr",
        "proximo train --gam",
        "proximo train CartPole-v1 --preset trp",
        "proximo check --env-k",
    ]
    lines = "".join(
        f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; _tyro_proximo; echo ${{COMPREPLY[*]}}\n"
        for words in asked
    )
    line = ["bash", "-c", f"source {tmp_path / 'script'}\n{lines}\ncomplete -p proximo"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    *found, registered = done.stdout.splitlines()
    assert found == ["train", "--gamma", "trpo", "--env-kwargs"]
    assert registered.startswith("complete -o default ")  # where it knows nothing, the names of files


def test_a_folder_that_is_taken(trained, capsys):
    folder, _ = trained
    assert "choose another --out" in mistake(capsys, "train", "CartPole-v1", *QUICK, "--out", folder)


def test_a_run_that_is_not_there(tmp_path, capsys):
    assert "there is no model in" in mistake(capsys, "evaluate", tmp_path / "nowhere")


def test_a_model_that_was_tampered_with(trained, tmp_path, capsys):
    folder = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    path = folder / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["evaluate", str(folder), "--episodes", "1"]) == 0  # its newest checkpoint is whole
    said = capsys.readouterr().err
    assert "a SHA-256 sum differs" in said and "the newest checkpoint is used instead" in said
    shutil.rmtree(folder / "checkpoints")
    assert "a SHA-256 sum differs" in mistake(capsys, "evaluate", folder)


def test_a_run_played_elsewhere(trained, capsys):
    said = mistake(capsys, "evaluate", trained[0], "--env", "Acrobot-v1", "--episodes", "1")
    assert "Acrobot-v1 has different observations or actions than CartPole-v1" in said


def test_a_module_in_a_file_is_not_imported(trained, tmp_path, capsys, module, monkeypatch):
    # An id read from a file that names a module is code.
    monkeypatch.syspath_prepend(module)
    monkeypatch.delitem(sys.modules, "odd_environments", raising=False)
    folder = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    path = folder / "model" / "model.json"
    description = json.loads(path.read_text()) | {"environment": "odd_environments:Odd-other-v0"}
    path.write_text(json.dumps(description))
    files = {name: (path.parent / name).read_bytes() for name in ("model.json", "model.safetensors")}
    (path.parent / "manifest.json").write_bytes(manifest(files))
    assert "names a module to import" in mistake(capsys, "evaluate", folder)
    assert "odd_environments" not in sys.modules


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"wrappers": [["odd_environments:Wrapper", {}]]},
            "a file may not name the wrapper odd_environments:Wr",
        ),
        (
            {"wrappers": [["Wrapper", {"entry_point": "odd_environments:Odd"}]]},
            "a file may not name the wrapper Wrapper",
        ),
        ({"name": "odd_environments:Odd-other-v0"}, "names a module to import"),
        (
            {"kwargs": {"allow_import": True}, "name": "odd_environments:Odd-other-v0"},
            "names a module to import",
        ),
        ({"kwargs": {"entry_point": "odd_environments:Odd"}}, "could not be made"),
        (
            {"wrappers": [["TransformReward", {"func": "odd_environments:Odd"}]], "layers": []},
            "'str' object is not call",
        ),
        ({"kwargs": {"x": {"__array__": [0], "dtype": "O", "scalar": False}}}, "cannot be read from a file"),
        ({"kwargs": {"x": {"__object__": "function odd_environments.Odd"}}}, "cannot be read from a file"),
        ({"kwargs": 3}, "does not describe a model"),
        ({"wrappers": ["odd_environments"]}, "does not describe a model"),
    ],
)
def test_a_description_in_a_file_imports_nothing(trained, tmp_path, capsys, module, monkeypatch, part, said):
    # Whoever writes the files of a run says how its environment is made, in words of Gymnasium's alone.
    monkeypatch.syspath_prepend(module)
    monkeypatch.delitem(sys.modules, "odd_environments", raising=False)
    folder = Path(shutil.copytree(trained[0] / "model", tmp_path / "model"))
    description = json.loads((folder / "model.json").read_text())
    description["env_description"] |= part
    description["environment"] = description["env_description"]["name"]
    (folder / "model.json").write_text(json.dumps(description))
    files = {name: (folder / name).read_bytes() for name in ("model.json", "model.safetensors")}
    (folder / "manifest.json").write_bytes(manifest(files))
    assert said in mistake(capsys, "evaluate", folder, "--episodes", "1")
    assert "odd_environments" not in sys.modules


def test_arguments_of_the_environment(trained, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    words = ["train", "CartPole-v1", "--steps", "64", "--horizon", "8", "--minibatch-size", "64", "--quiet"]
    words += ["--env-kwargs", "max_episode_steps=5", "sutton_barto_reward=True", "--out", str(folder)]
    assert main(words) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["env_kwargs"] == {"max_episode_steps": 5, "sutton_barto_reward": True}
    assert (
        json.loads((folder / "config.json").read_text())["env_description"]["kwargs"] == config["env_kwargs"]
    )
    capsys.readouterr()
    quick = ["evaluate", str(folder), "--episodes", "2", "--json"]
    assert main(quick) == 0  # heard again; Sutton and Barto's reward is 0 until the pole falls
    said = json.loads(capsys.readouterr().out)
    assert (said["lengths"], said["returns"]) == ([5, 5], [0.0, 0.0])
    assert main([*quick, "--env-kwargs", "sutton_barto_reward=false", "--num-envs", "1"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["returns"] == [5.0, 5.0]
    assert "sutton_barto_reward is False, in training it was True" in err
    assert main(["train", "--resume", str(folder), "--steps", "128", "--quiet"]) == 0
    assert main(quick) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["lengths"] == [5, 5]
    assert main(["report", str(folder)]) == 0
    kept = [word for word in words if word not in ("--quiet", "--out", str(folder))]
    page = (folder / "report.html").read_text()
    assert shlex.join(["proximo", *kept, "--out", "run-again"]) in page
    assert "proximo train --resume run-again --steps 128" in page


def test_arguments_of_the_environment_in_other_commands(capsys):
    words = ["FrozenLake-v1", "--env-kwargs", "map_name=8x8", "is_slippery=false"]
    assert main(["check", *words, "--steps", "50"]) == 0
    assert "no errors" in capsys.readouterr().out
    assert "NoSuchMap" in mistake(capsys, "check", "FrozenLake-v1", "--env-kwargs", "map_name=NoSuchMap")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "'a' is not of the form KEY=VALUE"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=1", "--env-kwargs", "b=1"], "--env-kwargs is given twice"),
        (["num_envs=3"], "num_envs is not an argument of an environment"),
        (["colour=red"], "unexpected keyword argument 'colour'"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, capsys, words, message):
    said = mistake(capsys, "train", "CartPole-v1", "--out", tmp_path / "run", "--env-kwargs", *words)
    assert message in said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("False", False),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ("8x8", "8x8"),
        ("", ""),
    ],
)
def test_a_value_is_json_or_text(text, value):
    assert keyword_arguments([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    ("how", "reason"), [("raise", "ZeroDivisionError: no denominator"), ("nan", "returned nan in its reward")]
)
def test_a_sick_environment_is_named_with_its_step_and_action(
    module, tmp_path, capsys, monkeypatch, how, reason
):
    monkeypatch.syspath_prepend(module)
    words = ["train", f"odd_environments:Odd-{how}-v0", *QUICK, "--out"]
    said = mistake(capsys, *words, tmp_path / "run")
    assert reason in said and "environment 0" in said and "at step 3, after the action 0" in said
    # --debug adds where in the user's code it was.
    assert main([*words, str(tmp_path / "debug"), "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and (how == "nan" or "odd_environments.py" in said)


# ---- a process of its own


def test_the_users_module_may_lie_in_the_working_folder(module, tmp_path):
    """`-P`: as the installed command, which Python does not give the working folder by itself."""
    words = ["-P", "-m", "proximo", "train", "odd_environments:Odd-well-v0", *QUICK, "--quiet"]
    done = subprocess.run(
        [sys.executable, *words, "--out", str(tmp_path / "run")], cwd=module, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The run's file imports nothing: the next command must name the module again, and says how.
    again = [sys.executable, "-P", "-m", "proximo", "evaluate", str(tmp_path / "run")]
    done = subprocess.run(again, cwd=module, capture_output=True, text=True)
    assert done.returncode == 2 and "--env odd_environments:Odd-well-v0" in done.stderr


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    process = command("train", "CartPole-v1", "--gamma", 3, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert err == "proximo train: gamma is 3.0: it must lie between 0 and 1\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_a_model(tmp_path):
    folder = tmp_path / "run"
    process = command("train", "CartPole-v1", "--steps", 10**9, "--quiet", "--out", folder)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists():  # from then on there is something to save
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and f"next: proximo evaluate {folder}" in out
    assert proximo.load(folder).act(np.zeros(4, np.float32)) in (0, 1)


RUNS = """
import sys
import proximo
for env, seed in (("CartPole-v1", 0), ("Pendulum-v1", 0), ("CartPole-v1", 1)):
    proximo.train(env, seed=seed, steps=2048, epochs=2, out=f"{sys.argv[1]}/{env}-{seed}")
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    environment = os.environ | AS_A_USER_HAS_IT
    words = [[sys.executable, "-c", RUNS, str(folder)] for folder in folders]
    processes = [subprocess.Popen(one, env=environment) for one in words]
    assert [process.wait(timeout=180) for process in processes] == [0, 0]

    def digest(folder, name):
        return hashlib.sha256((folder / name / "model" / "model.safetensors").read_bytes()).hexdigest()

    for name in ("CartPole-v1-0", "Pendulum-v1-0", "CartPole-v1-1"):
        assert digest(folders[0], name) == digest(folders[1], name), name
    assert digest(folders[0], "CartPole-v1-0") != digest(folders[0], "CartPole-v1-1")


def test_what_a_package_says_of_setuptools_is_not_shown():
    """pygame's import warns of pkg_resources, in lines of its own, before anything of ours is said."""
    code = "import warnings; from proximo.cli import one_line_warnings\n"
    code += "with one_line_warnings('train', False): warnings.warn('pkg_resources is deprecated as an API.')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_what_gymnasiums_checker_warns_of_is_one_line(tmp_path, capsys):
    """It warns of observations in float64 and of whole numbers as flags, each with a path and colours."""
    (tmp_path / "noisy.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "class Noisy(gym.Env):\n"
        "    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)\n"
        "    action_space = gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return np.zeros(1), {}\n"
        "    def step(self, action):\n"
        "        return np.zeros(1), 1.0, 1, 0, {}\n"
        "gym.register('Noisy-v0', Noisy)\n"
    )
    words = ["train", f"{tmp_path}/noisy.py:Noisy-v0", "--steps", "64", "--horizon", "8", "--minibatch-size"]
    assert main([*words, "64", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert said.count("Gymnasium's checker has warnings") == 1
    assert "passive_env_checker" not in said and "\x1b" not in said


def test_what_a_run_tells_on_its_way_is_one_line(capsys):
    import warnings

    from proximo.cli import one_line_warnings
    from proximo.errors import CheckpointDamaged

    with one_line_warnings("train", debug=False):
        for _ in range(2):  # each time, not once per place
            warnings.warn("the newest is damaged", CheckpointDamaged, stacklevel=1)
    assert capsys.readouterr().err == "proximo train: the newest is damaged\n" * 2
    with one_line_warnings("train", debug=True):
        warning = CheckpointDamaged("damaged")
        warning.__cause__ = ValueError("a sum differs")
        warnings.warn(warning, stacklevel=1)
    assert "ValueError: a sum differs" in capsys.readouterr().err
