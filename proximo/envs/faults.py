"""An environment that misbehaves, said in one line: which one, when, after what action, and why."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from operator import itemgetter
from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.printed import one_line
from proximo.envs.vector.returned import as_declared, form_for
from proximo.envs.vector.trees import each
from proximo.errors import EnvironmentFault, EnvironmentRestarted, Misfit, WorkerError


def fault(
    vector: gym.vector.VectorEnv, name: str, step: int, action: Any, error: Exception
) -> EnvironmentFault:
    """What to raise, `from error`, when a vector environment raised `error`.

    step    the number of the step, counted from 1; 0 is the reset
    action  the batch that was being applied, [N, ...]; None at a reset
    """
    refused = getattr(error, "refused", "")
    ending = f"; it was not restarted: {refused}" if refused else ""
    found = _misfit(vector.unwrapped, error) or error
    # What is wrong by its own declaration, or from the first step on, shows in a check.
    hints = ["run `proximo check` on it"] if isinstance(found, Misfit) or step <= 1 else []
    if not isinstance(found, Misfit):
        hints.append("--debug shows its traceback")
    text = _failure(vector, name, step, action, found)
    return EnvironmentFault(f"{text}{ending} ({'; '.join(hints)})")


def restart_message(
    vector: ParallelVectorEnv, name: str, step: int, error: Exception, lost: range
) -> EnvironmentRestarted:
    """What to warn of when the environments `lost` were restarted because of `error`, at `step`."""
    action = vector.actions() if step else None
    which = "it was restarted and its episode truncated"
    if len(lost) > 1:
        which = f"environments {lost.start} to {lost.stop - 1} were restarted and their episodes truncated"
    count, most = vector.restarts.count, vector.restarts.most
    text = _failure(vector, name, step, action, error)
    warning = EnvironmentRestarted(f"{text}; {which} (restart {count} of at most {most})")
    warning.__cause__ = error
    return warning


def _failure(vector: gym.vector.VectorEnv, name: str, step: int, action: Any, error: Exception) -> str:
    """Which environment failed, when and why."""
    index, text = _guilty(vector.unwrapped, error), f"{error}"
    dead = _dead_worker(vector.unwrapped, error)
    if dead is not None:
        index, status = dead
        why = "possible causes are a crash in native code and too little memory"
        text = f"its process ended with exit status {status}; {why}"
    elif not isinstance(error, EnvironmentFault | WorkerError):
        text = f"{type(error).__name__}: {error}"
    where = f"environment {index} of {name}" if index is not None else f"an environment of {name}"
    when = "at its reset"
    if step:
        when = f"at step {step}, after the action {_text(action if index is None else _row(action, index))}"
    return f"{where} failed {when}: {' '.join(text.split())}"


def check_finite(
    obs: np.ndarray,
    reward: np.ndarray,
    action: Any,
    first_step: int,
    applied: Callable[[Any], Any] = lambda action: action,
) -> None:
    """Raise EnvironmentFault if an observation or a reward of a rollout is NaN or infinite.

    obs         [T+1, N, ...]  encoded
    reward      [T, N]         raw
    action      [T, N, ...]    what the policy chose
    first_step  how many steps had been taken before the rollout; 0 for the first one
    applied     actions [N, ...] as the environments got them, for the message

    A sound rollout costs two sums. A sum of finite numbers can overflow, so only the second look decides.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(obs.sum()) and np.isfinite(reward.sum()):
            return
    # Row t of the reward and row t + 1 of the observations come from the same step; observation first.
    unsound = [
        (row - shift, shift, index, what)
        for what, array, shift in (("observation", obs, 1), ("reward", reward, 0))
        for row, index in np.argwhere(~_finite_rows(array))[:1].tolist()
    ]
    if not unsound:
        return
    row, _, index, what = min(unsound, key=lambda found: (found[0], -found[1]))
    value = obs[row + 1, index] if what == "observation" else reward[row, index]
    bad = np.ravel(value)[~np.isfinite(np.ravel(value))][0]
    large = ", or a number too large for float32," if what == "observation" and np.isinf(bad) else ""
    if row < 0:
        when = "at its reset" if first_step == 0 else f"at step {first_step}"
    else:
        taken = _text(_row(applied(_row(action, row)), index))
        when = f"at step {first_step + row + 1}, after the action {taken}"
    raise EnvironmentFault(
        f"environment {index} returned {bad}{large} in its {what} {when}: find the division by zero, the "
        "overflow or the unstable simulation behind it; nothing was learned from it"
    )


def _finite_rows(array: np.ndarray) -> np.ndarray:
    """[T, N, ...] -> bool [T, N]"""
    return np.all(np.isfinite(array).reshape(*array.shape[:2], -1), axis=-1)


def _guilty(vector: Any, error: BaseException) -> int | None:
    """The index of the environment that raised, or None where it cannot be known.

    Read from what is already there, after the fact, so that a step without an error pays nothing: the loop
    variable of Gymnasium's sync vector, or the report of its async workers.
    """
    if hasattr(error, "environment_index"):
        return int(error.environment_index)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        if frame.f_code.co_name == "_raise_if_errors" and "index" in local:
            return int(local["index"])
        if local.get("self") is vector and isinstance(local.get("i"), int):
            return int(local["i"])
    return 0 if getattr(vector, "num_envs", None) == 1 else None


def _dead_worker(vector: Any, error: BaseException) -> tuple[int, int | None] | None:
    """The index and exit status of a worker process that ended without a word, if that is the cause."""
    workers = getattr(vector, "processes", ())
    if not workers or not isinstance(error, EOFError | ConnectionError):
        return None
    wait([worker.sentinel for worker in workers], timeout=1.0)  # its pipe closes a moment before it is gone
    return next(((i, worker.exitcode) for i, worker in enumerate(workers) if not worker.is_alive()), None)


def _misfit(vector: Any, error: BaseException) -> Misfit | None:
    """What does not fit, where Gymnasium's sync vector failed to put the observations together."""
    if not any("concatenate" in frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)):
        return None
    form = form_for(vector.single_observation_space)
    for index, observation in enumerate(getattr(vector, "_env_obs", ())):
        try:
            as_declared(observation, form)
        except Misfit as misfit:
            misfit.environment_index = index  # type: ignore[attr-defined]
            return misfit
    return None


def _row(tree: Any, index: int) -> Any:
    """Row `index` of an array, or of each array in dicts and tuples."""
    return each(itemgetter(index), tree)


def _text(action: Any) -> str:
    """An action on one line, at most 100 characters."""
    if isinstance(action, dict | tuple):
        return one_line(each(lambda part: np.asarray(part).tolist(), action), 100)
    text = " ".join(np.array2string(np.asarray(action), precision=4, separator=", ", threshold=8).split())
    return text if len(text) <= 100 else text[:97] + "..."
