"""The rules of `python -m tests.documented`: no new command of a page is forgotten, and no failing one."""

import re
import shlex

import documented
import pytest
from documented import PAGES, ROOT, UnknownCommand, commands, entries, report, short, short_python, why_not


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_run_or_left_out_with_a_reason(page):
    found = list(entries(page.read_text()))
    proximo = [shlex.split(entry.text) for entry in found if entry.kind == "proximo"]
    assert proximo == commands(page.read_text())  # those that tests/test_docs.py types
    for words in proximo:
        assert len(short(words)) >= len(words)
    for entry in found:
        if entry.kind == "other" and not entry.text.startswith("python -c"):
            assert why_not(entry.text)


def test_most_commands_are_found():
    kinds = [entry.kind for page in PAGES for entry in entries(page.read_text())]
    assert kinds.count("proximo") > 70 and kinds.count("python") >= 5 and kinds.count("other") > 20


@pytest.mark.parametrize("words", ["paint CartPole-v1", "lm paint MODEL", "reproduce table2", "reproduce"])
def test_a_command_that_no_rule_makes_short_is_an_error(words):
    with pytest.raises(UnknownCommand):
        short(words.split())


@pytest.mark.parametrize("word", ["runs/paint-...", "my_paint.py:Paint", "my_paint:Paint"])
def test_a_file_that_nothing_makes_is_an_error(word):
    with pytest.raises(UnknownCommand):
        short(["evaluate", word])


def test_another_program_that_no_rule_knows_is_an_error():
    with pytest.raises(UnknownCommand):
        why_not("uv sync")


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        ("train A-v0 --clip 0.1", "train A-v0 --clip 0.1 --steps 4096"),
        ("train A-v0 --steps 100k --eval-every 50k", "train A-v0 --steps 4096 --eval-every 2048"),
        ("train A-v0 --total-timesteps 100000 --seed 3", "train A-v0 --total-timesteps 4096 --seed 3"),
        ("train --resume runs/A-v0-0-...", "train --resume runs/A-v0-0-... --steps 8192"),
        ("watch RUN --video a.gif", "watch RUN --video a.gif --env-kwargs max_episode_steps=50"),
        ("watch RUN", "watch RUN --video play.mp4 --env-kwargs max_episode_steps=50"),  # needs no screen
        ("reproduce table1", "reproduce table1"),  # all of it is there: it prints
    ],
)
def test_how_a_command_becomes_short(typed, run):
    assert " ".join(short(typed.split())) == run


def test_how_a_block_of_python_becomes_short():
    assert short_python("train(f, steps=100_000)") == "train(f, steps=4096)"
    assert short_python('f("CartPole-v1", network=Mine)') == 'f("CartPole-v1", network=Mine, steps=4096)'


def test_what_is_left_out_is_there():
    lines = [entry.text for page in PAGES for entry in entries(page.read_text()) if entry.kind == "other"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in lines:
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        elif "-m" in words:
            module = ROOT.joinpath(*words[words.index("-m") + 1].split("."))
            found = module.parent.is_dir() if module.name == "NAME" else module.with_suffix(".py").is_file()
            assert found, line  # NAME is one of several


def test_a_command_that_fails_is_reported_with_its_last_line(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("```\nproximo runs .      # works\nproximo runs --paint\nproximo paint\nmake test\n```\n")
    assert report([page]) == 1
    *lines, counts = capsys.readouterr().out.splitlines()
    told = [line.split("page.md: ") for line in lines]
    assert [status.strip() for status, _ in told] == ["ok", "failed", "failed", "not run"]
    assert "[exit status 2: proximo runs: " in told[1][1] and "--paint" in told[1][1]
    assert "add one to SHORT" in told[2][1] and told[3][1] == f"make test  [{documented.CHECKS}]"
    assert counts.startswith("1 ok, 2 failed, 1 not run, in ")
