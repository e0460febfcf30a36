"""What a person sees while a grid runs."""

import pytest

from proximo.experiments.runner import shown


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("proximo.runs.progress.time", clock)
    return clock


def test_plain_lines_in_a_pipe(clock, capsys):
    with shown("table1", runs=4, steps=1000, enabled=True) as show:
        show(0, 0)
        clock.now = 40.0
        show(0, 100)  # the first steps: from now on there is a rate
        clock.now = 60.0
        show(1, 300)  # too soon for another line
        clock.now = 70.0
        show(1, 400)
        clock.now = 99.0
        show(1, 410)
        clock.now = 100.0
        show(2, 700)
    # 300 steps in 30 s, then 600 steps in 60 s: 10 steps a second; 600 and 300 steps are left.
    assert capsys.readouterr().err.splitlines() == [
        "table1: 0/4 runs",
        "table1: 1/4 runs  10 steps/s  60 s left",
        "table1: 2/4 runs  10 steps/s  30 s left",
    ]


def test_nothing_when_quiet(clock, capsys):
    with shown("table1", runs=4, steps=1000, enabled=False) as show:
        clock.now = 60.0
        show(1, 300)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with shown("table1", runs=4, steps=1000, enabled=True) as show:
        show(2, 500)
    assert "2/4 runs" in capsys.readouterr().err
