"""The state of a vector of environments as plain data: what a resumed run needs to continue exactly."""

import operator
from typing import Any

import gymnasium as gym
import jax
import numpy as np

from proximo.envs.vector import snapshot
from proximo.envs.vector.parallel import ParallelVectorEnv
from proximo.envs.vector.trees import leaves

FLAGS = ("_autoreset_envs", "_terminations", "_truncations", "_rewards")  # of Gymnasium's sync vector
EVERY = slice(None)  # environment of a vector


def save(vector: gym.vector.VectorEnv, part: slice = EVERY) -> dict[str, Any] | None:
    """All environments of a vector and what the vector itself remembers, as nested dicts of str.

    With `part`, only those environments, as if they were a vector of their own.

    Their leaves are numbers, strings, bools, None and NumPy arrays. None for vectors other than ours and
    Gymnasium's sync vector, and where an environment's state is not known (`snapshot.save`).
    """
    own: dict[str, Any]
    saved: list[dict[str, Any] | None]
    if type(vector) is ParallelVectorEnv:
        saved, own = vector.save()[part], {name: np.array(x[part]) for name, x in vector.row().items()}
    elif type(vector) is gym.vector.SyncVectorEnv and not _has_text(vector):
        saved = [snapshot.save(env) for env in vector.envs[part]]
        own = {name: np.array(getattr(vector, name)[part]) for name in FLAGS}
    else:
        return None
    if any(state is None for state in saved):
        return None
    try:
        obs = snapshot.pack(jax.tree.map(operator.itemgetter(part), observations(vector)))
    except snapshot.NotPlain:
        return None
    environments = {str(index): state for index, state in enumerate(saved)}
    return {"kind": type(vector).__name__, "obs": obs, "own": own, "environments": environments}


def restore(vector: gym.vector.VectorEnv, state: dict[str, Any]) -> Any:
    """Put back what `save` gave, into a vector that was reset; returns the current observations.

    Raises ValueError, KeyError or WorkerError if it does not fit.
    """
    if type(vector) is ParallelVectorEnv and state["kind"] == gym.vector.SyncVectorEnv.__name__:
        state = _of_ours(state)
    if state["kind"] != type(vector).__name__:
        raise ValueError(f"it was saved from a {state['kind']}, this is a {type(vector).__name__}")
    if len(state["environments"]) != vector.num_envs:
        raise ValueError(f"it has {len(state['environments'])} environments, this is {vector.num_envs}")
    saved = [state["environments"][str(index)] for index in range(vector.num_envs)]
    obs = observations(vector)
    copy_into(obs, snapshot.unpack(state["obs"]))
    if type(vector) is ParallelVectorEnv:
        vector.restore(saved)
        copy_into(vector.row(), state["own"])
    elif type(vector) is gym.vector.SyncVectorEnv:
        for env, one in zip(vector.envs, saved, strict=True):
            snapshot.restore(env, one)
        copy_into({name: getattr(vector, name) for name in FLAGS}, state["own"])
    else:
        raise ValueError(f"the state of a {type(vector).__name__} cannot be restored")
    return obs


def _has_text(vector: gym.vector.VectorEnv) -> bool:
    """Whether it keeps texts among its observations, which no array holds."""
    return any(isinstance(part, gym.spaces.Text) for _, part in leaves(vector.single_observation_space))


def _of_ours(state: dict[str, Any]) -> dict[str, Any]:
    """The state of our own vector from that of Gymnasium's sync vector, in which older runs were stepped."""
    ended, terminated, truncated, reward = (state["own"][name] for name in FLAGS)
    own = {"reward": reward, "terminated": terminated, "truncated": truncated}
    environments = {
        index: {"seam": bool(ended[int(index)]), "layers": layers}
        for index, layers in state["environments"].items()
    }
    own["seeds"] = np.zeros(len(environments), np.int64)  # nobody knows them; they count after a fault alone
    return {**state, "kind": ParallelVectorEnv.__name__, "own": own, "environments": environments}


def observations(vector: Any) -> Any:
    """The arrays that hold the latest batch of observations."""
    return vector.observations() if type(vector) is ParallelVectorEnv else vector._observations


def copy_into(arrays: Any, values: Any) -> None:
    """Write arrays, or dicts or tuples of them, into others. Raises ValueError where they differ in form."""
    if type(arrays) is not type(values):
        raise ValueError(f"a {type(arrays).__name__} is a {type(values).__name__} in the saved state")
    if isinstance(arrays, np.ndarray):
        if (arrays.shape, arrays.dtype) != (values.shape, values.dtype):
            raise ValueError(
                f"an array is {values.dtype} {values.shape} in the saved state, "
                f"but here {arrays.dtype} {arrays.shape}"
            )
        arrays[...] = values
        return
    mine, theirs = (x if isinstance(x, dict) else dict(enumerate(x)) for x in (arrays, values))
    if set(mine) != set(theirs):
        raise ValueError(f"it has the parts {sorted(theirs)}, this is {sorted(mine)}")
    for name in mine:
        copy_into(mine[name], theirs[name])
