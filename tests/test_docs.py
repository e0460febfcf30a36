"""What the documents quote is in the code, what they name exists, and what they command can be typed."""

import importlib
import json
import re
import textwrap
from functools import cache

import jax
import numpy as np
import pytest
from documented import PAGES, ROOT, commands, quotes

import proximo
from proximo.arguments import choice_argument, config_from
from proximo.cli import main
from proximo.commands.train import Train
from proximo.control.config import preset, validate
from proximo.control.presets import METHODS
from proximo.core import Objective
from proximo.envs.check import check
from proximo.experiments.grids import GRIDS, find_grid
from proximo.experiments.summary import summary
from proximo.experiments.table import markdown
from proximo.importing import typed_by_user
from proximo.learn.actor_steps import ActorStep

PAGE = ROOT / "docs" / "paper.md"
TEXT = PAGE.read_text()


def plain(source):
    """Without common indentation and what stands at the ends of lines, blank lines kept."""
    lines = [line.rstrip() for line in textwrap.dedent(source).splitlines()]
    return "\n".join(lines).strip("\n")


def occurs(quote, source):
    """Whether some lines of the source are the quote, whatever their common indentation."""
    wanted, lines = plain(quote), source.splitlines()
    count = len(wanted.splitlines())
    return any(plain("\n".join(lines[i : i + count])) == wanted for i in range(len(lines) - count + 1))


def headings(text):
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


# All but those of environments and functions that are the reader's own.
TYPED = [words for page in PAGES for words in commands(page.read_text()) if "my_" not in " ".join(words)]


def tables(text):
    """(command, what stands between it and the end) of every table that a command prints."""
    return re.findall(
        r"^<!-- (proximo [^\n]*) -->\n\n(.*?)\n\n<!-- end -->$", text, flags=re.DOTALL | re.MULTILINE
    )


TABLES = [table for page in PAGES for table in tables(page.read_text())]


def presets(text):
    """The rows of the table of presets: name -> cells."""
    rows = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `"))
    cells = ([cell.strip("` ") for cell in row] for row in rows)
    return {row[0]: row[1:] for row in cells if row[0] in METHODS}


def test_every_python_block_names_its_file():
    assert len(quotes(TEXT)) == TEXT.count("```python") > 0


@cache
def numbers(grid):
    """What a table of the results shows."""
    return summary(find_grid(grid), ROOT / "results")


@pytest.mark.parametrize(("file", "quote"), quotes(TEXT))
def test_a_quote_is_in_its_file(file, quote):
    assert occurs(quote, (ROOT / file).read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if not link.startswith("https:")]
    for link in links:
        name, _, heading = link.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), link
        if heading:
            assert heading in headings(place.read_text()), link


@pytest.mark.parametrize(("command", "shown"), TABLES, ids=lambda value: value.partition("\n")[0])
def test_a_table_is_that_of_the_results(command, shown):
    proximo, reproduce, grid, as_markdown = command.split()
    assert (proximo, reproduce, as_markdown) == ("proximo", "reproduce", "--markdown")
    assert shown == markdown(numbers(grid))


@pytest.mark.parametrize("grid", [grid.name for grid in GRIDS if (ROOT / "results" / grid.name).is_dir()])
def test_to_print_a_finished_grid_changes_no_file(grid):
    # `proximo reproduce GRID` writes the summary again where it differs from what is there.
    assert json.loads((ROOT / "results" / grid / "summary.json").read_text()) == numbers(grid)


def test_every_picture_is_shown():
    shown = set(re.findall(r"!\[[^]]+\]\(paper/(\S+)\.svg\)", TEXT))
    assert shown == {path.stem for path in (PAGE.parent / "paper").glob("*.svg")}


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_a_command_can_be_typed(words):
    module = importlib.import_module(f"proximo.commands.{words[0]}")
    with typed_by_user(words):
        arguments = module.read(words[1:])
    if isinstance(arguments, Train):
        validate(config_from(arguments))


def test_the_table_of_presets():
    rows = presets(TEXT)
    assert rows.keys() == METHODS.keys()
    for name, (objective, actor_step, epochs, shape, _) in rows.items():
        config = preset(name, "Hopper-v5")
        assert choice_argument(ActorStep).instance_from_str([actor_step]) == config.update.actor_step
        assert shape == f"{config.num_envs} x {config.horizon}"
        if config.population is not None:
            assert (objective, epochs) == ("none", "none")
        else:
            assert choice_argument(Objective).instance_from_str([objective]) == config.update.objective
            assert epochs == str(config.update.epochs)


# ---- the checks themselves must be able to fail


def test_a_stale_quote_is_seen():
    source = "def f(x):\n    if x:  \n        return 1\n\n    return 2\n"
    assert occurs("if x:\n    return 1\n\nreturn 2\n", source)
    assert occurs("        return 1\n", source)
    assert not occurs("if x:\nreturn 1\n", source)
    assert not occurs("return 3\n", source)
    assert not occurs("return\n", source)


def test_what_is_looked_for_is_found():
    assert quotes("```python\n# a/b.py\nx = 1\n```\n```python\ny\n```\n") == [("a/b.py", "x = 1\n")]
    assert commands("```\nproximo train A-v0 --clip 0.1  # so\n```\n") == [["train", "A-v0", "--clip", "0.1"]]
    assert headings("# How fast, and why\n\n## B `c`\n") == {"how-fast-and-why", "b-c"}
    assert len(TYPED) > 40
    assert tables("<!-- proximo a -->\n\n| b |\n\n<!-- end -->\n") == [("proximo a", "| b |")]
    assert TABLES
    assert presets("| `trpo` | `unclipped` | a |\n| $x$ | b |\n") == {"trpo": ["unclipped", "a"]}


@pytest.mark.parametrize(("page", "least"), [("reliability.md", 20), ("language.md", 12)])
def test_every_promise_names_a_test_that_exists(page, least):
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > least
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_the_example_of_an_own_environment(capsys):
    words = ["check", "examples.own_environment:Walk-v0", "--steps", "50"]  # as typed on a command line
    assert main(words) == 0 and capsys.readouterr().out.endswith("no errors\n")
    module = importlib.import_module("examples.own_environment")
    assert [finding for finding in check(module.Walk, steps=300) if finding.level == "error"] == []
    env = module.Walk()
    observation, _ = env.reset(seed=0)
    steps = [env.step(1) for _ in range(10 - int(observation[0]))]
    assert [step[1] for step in steps] == [*[-0.1] * (len(steps) - 1), 1.0]
    assert steps[-1][2] and not any(step[2] for step in steps[:-1])


def test_the_example_of_an_own_objective():
    module = importlib.import_module("examples.own_objective")
    value, slope = jax.value_and_grad(lambda log_ratio: module.SmoothClip(5.0)(log_ratio, 3.0))(0.0)
    assert (value, slope) == (0.0, 3.0)  # at ratio 1 the policy gradient's
    assert module.learned(module.SmoothClip(), seed=0, steps=12_000) > 60  # a random policy has about 22


def test_the_example_of_an_own_network(tmp_path, capsys):
    words = [
        "train",
        "CartPole-v1",
        "--network",
        "examples/own_network.py:Residual:width=16",
        "--steps",
        "2048",
    ]
    assert main([*words, "--out", str(tmp_path / "run"), "--quiet"]) == 0  # as its page says
    assert "--network examples/own_network.py:Residual:width=16" in capsys.readouterr().out
    module = importlib.import_module("examples.own_network")
    agent = proximo.load(tmp_path / "run", network=module.Residual)  # the same class by another name
    assert agent.policy.parameters.layers[0].weight.shape == (16, 16)
    assert agent.act([0.0, 0.1, 0.0, 0.1]) in (0, 1)


def test_the_example_of_a_picture_and_a_category(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    words = ["--num-envs", "2", "--horizon", "32", "--minibatch-size", "64", "--steps", "64", "--epochs", "1"]
    words += ["--image-network", "small:channels=2,features=4", "--out", str(tmp_path), "--quiet"]
    assert main(["train", "examples/parcels.py:Parcels", *words]) == 0
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "policy.onnx")]) == 0
    env = importlib.import_module("examples.parcels").Parcels()
    assert [finding for finding in check(type(env), steps=100) if finding.level == "error"] == []
    seen = [env.reset(seed=seed)[0] for seed in range(20)]
    batch = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    given = {"camera": batch["camera"], "customer": batch["customer"][:, None].astype(np.float32)}
    assert session.run(None, given)[0].tolist() == proximo.load(tmp_path).act(batch).tolist()
    assert env.step(3 if env.fragile else env.customer % 3)[1] == 1.0  # the belt of its class's docstring


def test_the_language_guide_quotes_its_files():
    found = quotes((ROOT / "docs" / "language.md").read_text())
    ours = [(path, code) for path, code in found if path.startswith("proximo/")]
    assert ours
    for path, code in ours:
        assert occurs(code, (ROOT / path).read_text()), path


def tree(text):
    """Every path in README's tree; a description names files beside its own or inside of it."""
    block = re.search(r"^```\nproximo/\n.*?^```$", text, flags=re.DOTALL | re.MULTILINE).group()
    above = []
    for line in block.splitlines()[1:-1]:
        first, *named = re.findall(r"\w+(?:/|\.py)", line)
        here = ROOT.joinpath(*above[: (len(line) - len(line.lstrip())) // 2])
        above[len(here.relative_to(ROOT).parts) :] = [first]
        yield [here / first]
        yield from ([here / name, here / first / name] for name in named)


def test_the_tree_is_there():
    named = list(tree((ROOT / "README.md").read_text()))
    assert len(named) > 60
    assert [str(places[0]) for places in named if not any(place.exists() for place in places)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    """`learn/update.py` is `proximo/learn/update.py`."""
    named = set(re.findall(r"`([\w/]+/\w+\.py|\w+\.py)`", page.read_text()))
    folders = [ROOT, *(folder for folder in ROOT.joinpath("proximo").rglob("*/") if folder.is_dir())]
    missing = [name for name in named if not any((folder / name).exists() for folder in [*folders, *above()])]
    assert missing == []


def above():
    """Folders whose content pages name without them."""
    return [ROOT / "proximo", ROOT / "tests", ROOT / "benchmarks", ROOT / "examples"]
