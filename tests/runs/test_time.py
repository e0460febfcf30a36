"""The time that is left, and the time that a run may take, are told truly."""

import time

import jax
import jax.numpy as jnp

from proximo.runs import process, progress
from proximo.runs.compiling import compile_seconds
from proximo.runs.process import Deadline, take_turns
from proximo.runs.progress import Rate, TimeLeft


class Clock:
    """A clock that is set by hand, for both modules."""

    def __init__(self, monkeypatch):
        self.now, self.aside = 100.0, 0.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(process.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(process, "compile_seconds", lambda: self.aside)


def test_the_time_left_leaves_out_compilation_and_evaluation(monkeypatch):
    clock = Clock(monkeypatch)
    left = TimeLeft(1000, lambda: clock.aside)
    assert left(100) == ""  # nothing is known yet
    clock.now, clock.aside = clock.now + 60.0, 50.0  # 10 seconds of training, 50 of something else
    assert left(200) == "80 s left"  # 100 steps took 10 seconds, 800 are left


def test_the_time_left_is_never_negative_and_a_resumed_run_starts_where_it_was(monkeypatch):
    clock = Clock(monkeypatch)
    left, rate = TimeLeft(1000, lambda: 0.0), Rate()
    assert left(900) == "" and rate(900) == 0.0  # made before it was resumed: no speed of this process
    clock.now += 10.0
    assert left(950) == "10 s left" and rate(950) == 5.0
    clock.now += 10.0
    assert left(1020) == "0 s left"


def turns_until_the_deadline(monkeypatch, limit, durations, saving=0.0, compiled=()):
    """How long a run takes whose turns take so long; `compiled` seconds of each are compilation."""
    clock = Clock(monkeypatch)
    deadline = Deadline(limit, lambda: saving)

    def turns():
        for number, seconds in enumerate(durations):
            clock.now += seconds
            clock.aside += compiled[number] if number < len(compiled) else 0.0
            yield number

    take_turns(turns(), lambda number: False, deadline)
    return clock.now - 100.0


def test_a_time_limit_is_used_up_to_one_iteration_of_it(monkeypatch):
    # A first turn of 9 seconds, 8 of them compilation, then turns of 1 second.
    taken = turns_until_the_deadline(monkeypatch, 20.0, [9.0] + [1.0] * 90, compiled=(8.0,))
    assert 20.0 - 1.0 - 1.2 - 1.0 <= taken <= 20.0 - 1.0
    assert taken > 0.8 * 20.0


def test_what_saving_costs_is_kept_free(monkeypatch):
    taken = turns_until_the_deadline(monkeypatch, 60.0, [1.0] * 90, saving=5.0)
    assert 60.0 - 2 * 5.0 - 1.0 - 2.2 <= taken <= 60.0 - 2 * 5.0 - 1.0  # a checkpoint and the model


def test_a_long_turn_is_expected_again(monkeypatch):
    # An evaluation made one turn 10 seconds long; the next one may be too.
    taken = turns_until_the_deadline(monkeypatch, 60.0, [1.0] * 5 + [10.0] + [1.0] * 90)
    assert taken <= 60.0 - 10.0


def test_what_jax_compiles_is_counted():
    before, started = compile_seconds(), time.perf_counter()
    jax.jit(lambda x: jnp.tanh(x @ x) + 12345.678)(jnp.ones((7, 7)))
    assert 0.0 < compile_seconds() - before <= time.perf_counter() - started
