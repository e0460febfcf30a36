"""Which of two ways to step is kept, on a machine that is simulated: so many steps a second in each way."""

import math

import numpy as np
import pytest

from proximo.envs.vector.pace import BLOCK, LATEST, ROUND, SOON, Pace

ACT = 0.2  # of the time goes to the policy, between two steps


class Machine:
    """A clock, and a vector that steps in one of two ways; `rates(way, now)` says how fast that is.

    update  seconds between the rollouts, each of so many steps
    move    seconds of changing over
    """

    def __init__(self, rates, update=0.2, rollout=500, move=0.01):
        self.rates, self.update, self.rollout, self.move = rates, update, rollout, move
        self.now, self.way, self.pace, self.stepping, self.steps = 100.0, False, Pace(), 0.0, 0
        self.changes = []

    def run(self, seconds):
        """Steps a second of so many seconds of stepping."""
        before, steps, end = self.stepping, self.steps, self.stepping + seconds
        while self.stepping < end:
            if self.steps % self.rollout == 0:
                self.now += self.update
            began = self.now
            if self.pace.due(self.now):
                self.way = not self.way
                self.now += self.move
                self.changes.append(self.now)
                self.pace.changed(self.now)
            self.now += (1 - ACT) / self.rates(self.way, self.now)
            self.pace.done(self.now)
            self.now += ACT / self.rates(self.way, self.now)
            self.steps += 1
            self.stepping += self.now - began
        return (self.steps - steps) / (self.stepping - before)


def test_alone_the_first_way_is_kept_and_trials_cost_little():
    """HalfCheetah-v5 alone on two cores: 8,865 steps a second split across them, 6,265 in one process."""
    machine = Machine(lambda way, now: 6265 if way else 8865)
    assert machine.run(60) > 0.98 * 8865 and not machine.way


def test_beside_a_busy_process_the_other_way_is_found_soon():
    """3,885 and 4,914: never below 0.95 of the better one, from the first seconds on."""
    machine = Machine(lambda way, now: 4914 if way else 3885)
    assert machine.run(10) > 0.95 * 4914 and machine.way
    assert machine.run(60) > 0.98 * 4914 and machine.way


@pytest.mark.parametrize("begin", [7.0, 40.0, 60.0])
def test_a_load_that_comes_and_goes_is_followed(begin):
    """It is noticed by the rate, which falls as it comes and rises as it goes."""

    def rates(way, now):
        alone, beside = (6265, 4914) if way else (8865, 3885)
        return beside if begin < now - start < begin + 60 else alone

    machine = Machine(rates, update=0.0)
    start = machine.now
    soon = SOON * LATEST + 1.1 + len(ROUND) * (BLOCK + machine.move)
    machine.run(begin - 0.1)
    assert not machine.way
    machine.run(soon)
    assert machine.way
    machine.run(start + begin + 60 - machine.now + soon)
    assert not machine.way


def test_of_two_ways_that_are_alike_the_first_is_kept():
    machine = Machine(lambda way, now: 1020 if way else 1000)
    machine.run(200)
    assert not machine.way
    # Ever more rarely: after 0.5 seconds, and after 15, 30, 60 and 60 more, six changes each.
    assert len(machine.changes) == 5 * 6


def test_the_noisier_the_longer_is_a_trial():
    """Blocks that vary by a third: in eight of ten machines the way that is a fifth faster is found."""
    found = 0
    for seed in range(20):
        noise = np.random.default_rng(seed)
        level = {}

        def rates(way, now, noise=noise, level=level):
            return level.setdefault(
                (way, int(now / 0.02)), (1.2 if way else 1) * 1000 * noise.lognormal(0, 0.5)
            )

        machine = Machine(rates, update=0.0)
        machine.run(4.5)
        found += machine.way
    assert found >= 16


def test_a_load_that_drifts_does_not_decide():
    """While both get slower and slower within a trial, the better one is still found."""
    for better in (1.1, 1 / 1.1):

        def rates(way, now, better=better):
            return (better if way else 1) * 2000 * math.exp(-(now - 100) / 2)

        machine = Machine(rates, update=0.0, move=0.0)
        machine.run(4.0)
        assert machine.way == (better > 1)


def test_an_update_is_no_step():
    """Between rollouts nothing is stepped: with updates of whatever length the same is decided."""
    for update in (0.1, 5.0):
        machine = Machine(lambda way, now: 900 if way else 1000, update=update, rollout=100)
        machine.run(3)
        assert not machine.way and len(machine.changes) == 6


def test_a_step_that_is_held_up_counts():
    """Of every hundred steps one takes 0.2 s in the first way, as where a quota of CPU time is used up."""
    machine = Machine(None, update=0.0)
    machine.rates = lambda way, now: 550 if way else 1500 if machine.steps % 100 else 5
    machine.run(5)
    assert machine.way
