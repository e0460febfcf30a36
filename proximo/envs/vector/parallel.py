"""The vector of environments that Proximo makes: in this process, in processes next to it, or both.

Environments in a process next to this one share their memory with it. Two gains. Environments step at the
same time, on as many cores as there are. And an environment keeps a core's caches to itself: a step of
HalfCheetah-v5 takes longer where it shares the process with the policy's compiled calls, and so does that
call.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from proximo.envs.vector import snapshot
from proximo.envs.vector.cores import granted_cores
from proximo.envs.vector.environment_slice import EnvironmentSlice
from proximo.envs.vector.masks import Masks, source_of
from proximo.envs.vector.memory import CLOSE, READY, REMAKE, RESET, STEP, Shared
from proximo.envs.vector.pace import Pace
from proximo.envs.vector.restarts import Restarts
from proximo.envs.vector.returned import empty_like
from proximo.envs.vector.timeout import Timeout
from proximo.envs.vector.trees import put, with_texts
from proximo.envs.vector.worker import packed
from proximo.envs.vector.workers import Worker, WorkerGone
from proximo.errors import Misfit, as_error

Share = EnvironmentSlice | Worker

CLOSE_SECONDS = 5.0  # for all workers together to close their environments


class ParallelVectorEnv(gym.vector.VectorEnv):
    """N environments, shared out over worker processes and this one; NEXT_STEP, as Gymnasium's vectors.

    make              makes one environment; without arguments
    probe             one that was made already, to read its spaces from; this process steps it where it steps
                      any, and closes it otherwise. It is kept, to be described
    num_envs          N
    num_workers       processes beside this one; with 0 it steps everything, with N nothing
    max_restarts      maximum number of restarts of environments or workers, after which their fault is raised
    restart_interval  seconds that must lie between two restarts of the same share
    step_timeout      seconds after which an environment in a worker process counts as hanging
    reset_timeout     the same while it is made or reset, or makes its first step, which may compile
    adapt             whether this process steps everything while that is faster, as on a busy machine; only
                      where environments can be moved with nothing lost, which are Gymnasium's own classes

    Its spaces are those that codecs are made of (spaces.py). What `step` returns is overwritten by the next
    call; the info is empty: what is read of it is to be had from `told` and `legal`. What they return is
    looked at (returned.py), and they get copies, so they may keep and change what they are given.

    An environment that raises is restarted; so are all of a worker that is killed or hangs. Their row is
    the last of a truncated episode: reward 0, and the last good observation again. What would happen again
    is raised instead (`Restarts`). An environment in this process is watched as far as `Timeout` can.
    """

    chunk = EnvironmentSlice  # how a share is stepped

    def __init__(
        self,
        make: Callable[[], gym.Env],
        probe: gym.Env,
        num_envs: int,
        num_workers: int,
        *,
        max_restarts: int = 0,
        restart_interval: float = 60.0,
        step_timeout: float = 60.0,
        reset_timeout: float = 300.0,
        adapt: bool = False,
    ) -> None:
        own = num_envs if num_workers == 0 else num_envs // (num_workers + 1)
        self.num_envs = num_envs
        spaces = with_texts(probe.observation_space), probe.action_space
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in spaces)
        self.metadata = {**(probe.metadata or {}), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.spec, self.render_mode = probe.spec, None
        self.probe = probe
        self.restarts = Restarts(num_envs, max_restarts, restart_interval)
        self.report: Callable[[Exception, range], None] = lambda error, lost: None
        self.step_timeout, self.reset_timeout = step_timeout, reset_timeout
        obs, actions = (empty_like(space, num_envs) for space in spaces)
        self.shared = Shared(num_envs, obs, actions, Masks(self.single_action_space).room)
        self._arrays = self.shared.arrays()
        chunk = partial(self.chunk, make, spaces)
        self._new_chunk = chunk
        self._elsewhere: tuple[EnvironmentSlice, list[Worker]] | None = (
            None  # the other way: own share and workers
        )
        self.pace = Pace() if adapt and num_workers and snapshot.native(probe) else None
        self._parcel = packed(chunk) if num_workers else b""
        bounds = np.linspace(own, num_envs, num_workers + 1).astype(int).tolist() if num_workers else []
        self.workers = [self._worker(first, last) for first, last in pairwise(bounds)]
        if own:
            self.own = chunk(0, own, self.shared, [probe])
        else:
            self.own = chunk(0, 0, self.shared)
            with suppress(Exception):  # if it fails, so will the others, at the end
                probe.close()

    @property
    def envs(self) -> list[gym.Env]:
        """Those that this process steps, which are the first ones."""
        return self.own.envs

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes; `seed` is one number or one per environment."""
        if seed is None:
            seed = fresh_seeds(np.random.SeedSequence(), self.num_envs)
        self._arrays["seeds"][:] = np.arange(self.num_envs) + seed if isinstance(seed, int) else seed
        self._everywhere(RESET)
        return self._arrays["obs"], {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One row of the stream."""
        if self.pace is not None and self.pace.due(time.perf_counter()):
            self.change_over()
        arrays = self._arrays
        put(arrays["actions"], ..., actions)
        self.restarts.rows += 1
        self._everywhere(STEP)
        if self.pace is not None:
            self.pace.done(time.perf_counter())
        return arrays["obs"], arrays["reward"], arrays["terminated"], arrays["truncated"], {}

    def observations(self) -> Any:
        """The latest ones, [N, ...] or dicts and tuples of such; overwritten by the next call."""
        return self._arrays["obs"]

    def actions(self) -> Any:
        """The latest ones, [N, ...] or dicts and tuples of such."""
        return self._arrays["actions"]

    def row(self) -> dict[str, np.ndarray]:
        """The rest of the latest row, and the seeds; each [N], overwritten by the next call."""
        return {name: self._arrays[name] for name in ("reward", "terminated", "truncated", "seeds")}

    def told(self) -> tuple[np.ndarray, np.ndarray]:
        """Success and cost of the latest row, each [N], NaN where none; overwritten by the next call."""
        return self._arrays["success"], self._arrays["cost"]

    def legal(self) -> np.ndarray | None:
        """Which actions may be next, bool [N, M], overwritten by the next call; None where none tells."""
        code = self.mask_code()
        return self._arrays["legal"][:, : self.own.masks.count(code)] if code else None

    def mask_code(self) -> int:
        """How masks are told (`Masks.code_of`); 0 where no environment does. Raises Misfit for two ways."""
        codes = {int(code) for code in self._arrays["masked"] if code}
        if len(codes) > 1:
            raise Misfit(
                "some environments have a flag for each combination in their action mask, others one for "
                "each value; return masks of one shape"
            )
        return max(codes, default=0)

    def mask_source(self) -> str:
        """Where masks are told, as `Masks.source` has it."""
        return source_of(int(np.bitwise_or.reduce(self._arrays["places"])))

    def save(self) -> list[dict[str, Any] | None]:
        """The state of every environment as plain data; None where it cannot be known."""
        for worker in self.workers:
            worker.begin_save()
        shares: list[Share] = [self.own, *self.workers]
        return [state for states in call_all(share.save for share in shares) for state in states]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Put back what `save` gave. Raises ValueError or WorkerError if it does not fit."""
        for worker in self.workers:
            worker.begin_restore(states[worker.first : worker.last])
        own = partial(self.own.restore, states[: self.own.last])
        call_all([own, *(worker.wait for worker in self.workers)])

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers and close the environments."""
        other, idle = self._elsewhere or (self.own, [])
        envs = [*self.own.envs, *other.envs[len(self.own.envs) :]]
        for worker in (workers := [*self.workers, *idle]):
            worker.begin(CLOSE)
        try:
            call_all(env.close for env in envs)
        finally:
            deadline = time.monotonic() + CLOSE_SECONDS
            call_all(partial(worker.end, deadline) for worker in workers)

    def change_over(self) -> None:
        """Let this process step everything, or its share again: the environments continue where they are.

        Where one cannot be moved, or fails in it, everything stays as it is for good.
        """
        try:
            if self._elsewhere is None:
                self._elsewhere = self._all_here(), []
            other, workers = self._elsewhere
            start, stop = sorted((self.own.last, other.last))
            for worker in self.workers:
                worker.begin_save()
            saved: list[Any] = call_all(worker.save for worker in self.workers) or [
                self.own.save()[start:stop]
            ]
            moved = [state for states in saved for state in states]
            for worker in workers:
                worker.begin_restore(moved[worker.first - start : worker.last - start])
            call_all(worker.wait for worker in workers)
            other.follow(self.own)
            if not workers:
                other.restore(moved, start)
        except Exception:
            self.pace = None
        else:
            self._elsewhere = self.own, self.workers
            self.own, self.workers = other, workers
        if self.pace is not None:
            self.pace.changed(time.perf_counter())

    def _all_here(self) -> EnvironmentSlice:
        """All environments in this process, those of others as copies that were reset once."""
        chunk = self._new_chunk(0, self.num_envs, self.shared, self.own.envs)
        for env in chunk.envs[self.own.last :]:
            env.reset(seed=0)
        return chunk

    def _worker(self, first: int, last: int) -> Worker:
        return Worker(self._parcel, first, last, self.shared, self._limit)

    def _limit(self, at: int) -> float:
        """Seconds that a worker may stay where it is; see `Shared.at`."""
        slow = at < 0 or self.restarts.unproven(at)
        return self.reset_timeout if slow else self.step_timeout

    def _own_limit(self, command: int) -> float:
        """Seconds for all environments of this process; its workers are watched one environment at a time."""
        own = slice(self.own.first, self.own.last)
        resets = np.any(self._arrays["terminated"][own] | self._arrays["truncated"][own])
        slow = command != STEP or resets or any(map(self.restarts.unproven, range(own.start, own.stop)))
        return (own.stop - own.start) * (self.reset_timeout if slow else self.step_timeout)

    def _everywhere(self, command: int) -> None:
        failed: list[tuple[Share, Exception]] = []
        for worker in self.workers:
            worker.begin(command)
        try:
            with Timeout(self._own_limit(command)):
                self.own.execute(command, 0)
        except Exception as error:
            failed.append((self.own, error))
        for worker in self.workers:
            try:
                worker.wait()
            except Exception as error:
                failed.append((worker, error))
        while failed:
            failed += self._restart_failed(command, *failed.pop(0))

    def _restart_failed(self, command: int, share: Share, error: Exception) -> list[tuple[Share, Exception]]:
        """Restart what failed, and do the rest of the command; returns what fails in that.

        Raises the error where that is refused.
        """
        index = getattr(error, "environment_index", share.first)
        gone = isinstance(error, WorkerGone)
        refused = self.restarts.refusal(share.first, index, error)
        if refused is not None:
            error.refused = refused  # type: ignore[attr-defined]
            raise error
        lost = range(share.first, share.last) if gone else range(index, index + 1)
        self.restarts.note(share.first, lost)
        if command == STEP:
            self._cut(lost, index)
        if gone:
            share = self._worker(share.first, share.last)
            self.workers = [share if old.first == share.first else old for old in self.workers]
        try:
            with Timeout(self._own_limit(RESET) if share is self.own else None):
                share.execute(READY if gone else REMAKE, lost.start)
                self.report(error, lost)
                if command == RESET:
                    share.execute(RESET, lost.start)
                elif lost.stop < share.last:
                    share.execute(STEP, lost.stop)
        except Exception as following:
            return [(share, following)]
        return []

    def _cut(self, lost: range, index: int) -> None:
        """End the episodes that are lost in this row, and draw seeds for the next ones.

        Those before `index`, in the same process, had finished their step, so their reward counts.
        """
        row = self.row()
        row["reward"][index : lost.stop] = 0.0
        self.shared.forget(self._arrays, slice(index, lost.stop))
        row["terminated"][index : lost.stop] = False
        row["truncated"][lost] = ~row["terminated"][lost]
        for i in lost:
            sequence = np.random.SeedSequence([int(row["seeds"][i]), self.restarts.count])
            (row["seeds"][i],) = fresh_seeds(sequence, 1)


def call_all(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """What they return. All are called, for each takes an answer; then the first error is raised."""
    answers, errors = [], []
    for call in calls:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(as_error(error))
    if errors:
        raise errors[0]
    return answers


def fresh_seeds(sequence: np.random.SeedSequence, count: int) -> list[int]:
    """Seeds for environments. They are below 2^31: many a simulator takes no more than a C int."""
    return [int(seed) >> 1 for seed in sequence.generate_state(count)]


def spare_workers(num_envs: int) -> int:
    """Workers that pay: one per further core that this process is granted, and no more than can be busy.

    A worker of a pool may have none: multiprocessing lets no daemon start processes.
    """
    if multiprocessing.current_process().daemon:
        return 0
    return min(granted_cores() - 1, max(num_envs - 1, 1))
