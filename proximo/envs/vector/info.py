"""What training needs of an environment's info: success, cost and the legal actions; the rest is not read."""

from typing import Any

import gymnasium as gym
import numpy as np

from proximo.envs.vector.memory import choices
from proximo.envs.vector.returned import as_array, short
from proximo.errors import Misfit

SUCCESS, COST, MASK = "is_success", "cost", "action_mask"
METHOD = "action_masks"  # of an environment, as sb3-contrib has it
NOTHING = (np.nan, np.nan)
NOWHERE, IN_INFO, BY_METHOD, IN_OBSERVATION = "", "info", "method", "observation"


def told(info: dict[str, Any]) -> tuple[float, float]:
    """Success and cost in the info of one step, each NaN where it is not told. Raises Misfit."""
    success, cost = info.get(SUCCESS), info.get(COST)
    if success is None and cost is None:
        return NOTHING
    return finite(success, SUCCESS), finite(cost, COST)


def finite(value: Any, name: str) -> float:
    """A bool or a number that an info holds; None is NaN. Raises Misfit for what is neither."""
    if value is None:
        return np.nan
    array = as_array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        remedy = "return a float or a bool, or leave it out"
        raise Misfit(f"the {name!r} in its info is {short(value)}, which is not one finite number; {remedy}")
    return float(array.reshape(()))


class Masks:
    """Which actions of an environment are legal, as it tells.

    space  of its actions
    """

    def __init__(self, space: gym.Space) -> None:
        parts = choices(space)
        self.size, self.starts = int(parts.sum()), np.cumsum(parts) - parts

    def source(self, env: gym.Env, obs: Any, info: Any) -> str:
        """Where it tells, after a reset: IN_INFO, BY_METHOD, IN_OBSERVATION, or NOWHERE."""
        if not self.size:
            return NOWHERE
        if isinstance(info, dict) and info.get(MASK) is not None:
            return IN_INFO
        if env.has_wrapper_attr(METHOD):
            return BY_METHOD
        return IN_OBSERVATION if isinstance(obs, dict) and MASK in obs else NOWHERE

    def now(self, source: str, env: gym.Env, obs: Any, info: Any, ended: bool) -> np.ndarray:
        """Its legal actions, as `legal` gives them. Raises Misfit."""
        if source == BY_METHOD:
            mask = env.get_wrapper_attr(METHOD)()
        elif source == IN_INFO:
            mask = info.get(MASK) if isinstance(info, dict) else None
        else:
            mask = obs[MASK]
        return self.legal(mask, ended)

    def legal(self, mask: Any, ended: bool) -> np.ndarray:
        """A mask as bool [M]: a flag for each value of each part of the action. Raises Misfit.

        ended  whether the episode has: the next action is ignored, so where the mask is missing (None) or
               leaves nothing, everything is legal
        """
        if mask is None:
            if ended:
                return np.ones(self.size, bool)
            raise Misfit(f"its info has no {MASK!r}, which it had at the reset; return one in every step")
        flags = _flat(mask)
        if flags is None or flags.shape != (self.size,):
            remedy = f"return an int8 array of shape ({self.size},)"
            raise Misfit(
                f"its action mask is {short(mask)}, its action space has {self.size} values; {remedy}"
            )
        found = flags.astype(bool)
        if (found != flags).any():
            raise Misfit("its action mask has values other than 0 and 1; return only these")
        if np.logical_or.reduceat(found, self.starts).all():
            return found
        if ended:
            return np.ones(self.size, bool)
        part = "" if len(self.starts) == 1 else " for one part of the action"
        raise Misfit(f"its action mask allows no action{part}; allow one, or end the episode")


def _flat(mask: Any) -> np.ndarray | None:
    """A mask, or a tuple of one for each part, as one row of numbers; None if it is neither."""
    parts = [as_array(part) for part in (mask if isinstance(mask, tuple) else (mask,))]
    flat = [part.reshape(-1) for part in parts if part is not None and part.dtype.kind in "biuf"]
    return np.concatenate(flat) if len(flat) == len(parts) > 0 else None
