"""Small environments that do one thing each, right or wrong."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Walk(gym.Env):
    """A seeded random walk that shows its position and its clock; it ends in both ways.

    It terminates when the position leaves [-2, 2], and is truncated after `limit` steps.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)

    def __init__(self, limit=6):
        self.limit = limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.clock = self.np_random.uniform(-1, 1), 0
        return self._observation(), {}

    def step(self, action):
        self.position += (2 * int(action) - 1) * self.np_random.uniform(0, 1)
        self.clock += 1
        terminated = bool(abs(self.position) > 2)
        truncated = bool(self.clock >= self.limit)
        return self._observation(), float(self.position), terminated, truncated, {"clock": self.clock}

    def _observation(self):
        return np.array([self.position, self.clock], np.float32)


class DictWalk(Walk):
    """The same walk, its observation in parts."""

    observation_space = spaces.Dict(
        clock=spaces.Discrete(20), position=spaces.Box(-10.0, 10.0, (1,), np.float32)
    )

    def _observation(self):
        return {"clock": self.clock, "position": np.array([self.position], np.float32)}


class FailsAt(Walk):
    """Raises in the step number `at` of the environment that was seeded with `unlucky`; 0 is the reset."""

    def __init__(self, at=3, unlucky=2):
        super().__init__(limit=100)
        self.at, self.unlucky = at, unlucky
        self.error = ZeroDivisionError("a bad\nday")

    def reset(self, *, seed=None, options=None):
        self.seeded = seed
        if self.at == 0 and seed == self.unlucky:
            raise self.error
        return super().reset(seed=seed)

    def step(self, action):
        self.position *= 0
        result = super().step(action)
        if self.clock == self.at and self.seeded == self.unlucky:
            raise self.error
        return result


class Dies(Walk):
    """Its process ends without a word, in the environment that was seeded with 1."""

    def reset(self, *, seed=None, options=None):
        self.seeded = seed
        return super().reset(seed=seed)

    def step(self, action):
        if self.seeded == 1:
            os._exit(3)
        return super().step(action)


class StaysHere(Walk):
    """Works in the main process alone."""

    def reset(self, *, seed=None, options=None):
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("not in this process")
        return super().reset(seed=seed)


class WrongShape(Walk):
    """Returns three numbers where its space declares two: from the reset on, or from the second step."""

    def __init__(self, at=2):
        super().__init__()
        self.at = at

    def _observation(self):
        return np.zeros(3 if self.clock >= self.at else 2, np.float32)


class Misbehaves(Walk):
    """Does something terrible in the step number `at` after it was made, if it was seeded with `unlucky`.

    unlucky  a seed; None means all
    """

    def __init__(self, how="raise", at=5, unlucky=9):
        super().__init__(limit=100)
        self.how, self.at, self.unlucky = how, at, unlucky
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        self.seeded = self.seeded if seed is None else seed
        return super().reset(seed=seed)

    def step(self, action):
        self.position *= 0
        self.steps += 1
        if self.steps == self.at and self.unlucky in (None, self.seeded):
            self.misbehave()
        return super().step(action)

    def misbehave(self):
        if self.how == "raise":
            raise ZeroDivisionError("a bad\nday")
        if self.how == "exit":
            os._exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "crash":
            ctypes.string_at(0)
        time.sleep({"hang": 1000, "nap": 2.5}.get(self.how, 3.5))


class Parent(Walk):
    """In a worker it has a process forked, one spawned and a program of its own, and shows their numbers."""

    observation_space = spaces.Box(0, 2**31, (3,), np.int64)

    def __init__(self):
        super().__init__(limit=100)
        self.processes, self.program = [], None
        if multiprocessing.parent_process() is None:
            return
        for how in ("fork", "spawn"):
            process = multiprocessing.get_context(how).Process(target=time.sleep, args=(60,))
            process.start()
            self.processes.append(process)
        self.program = subprocess.Popen(["sleep", "60"])

    def step(self, action):
        """With the action 1 it ends them, as it may: each hears SIGTERM."""
        if action:
            for process in self.processes:
                process.terminate()
                process.join(20)
                assert process.exitcode == -signal.SIGTERM
            self.program.terminate()
            assert self.program.wait(20) == -signal.SIGTERM
        return super().step(action)

    def _observation(self):
        if self.program is None:
            return np.zeros(3, np.int64)
        return np.array([process.pid for process in [*self.processes, self.program]])
