"""What training needs of an environment's info: success, cost, lives; `masks.py` reads the legal actions."""

from typing import Any

import numpy as np

from proximo.envs.vector.printed import as_array, short
from proximo.errors import Misfit, UserError

SUCCESS, COST, LIVES = "is_success", "cost", "lives"
NOTHING = (np.nan, np.nan)


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


def lives_in(info: Any, num_envs: int) -> np.ndarray:
    """How many lives each of several environments has left. Raises UserError where infos do not tell."""
    lives = info.get(LIVES) if isinstance(info, dict) else None
    if not isinstance(lives, np.ndarray) or lives.shape != (num_envs,):
        raise UserError(
            f"its infos have no {LIVES!r}, which life_loss needs: use vectorization_mode="
            "'vector_entry_point' for an Atari game, or leave life_loss out"
        )
    return lives.copy()
