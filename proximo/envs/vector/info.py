"""What training needs of an environment's info: success and cost; `masks.py` reads the legal actions."""

from typing import Any

import numpy as np

from proximo.envs.vector.printed import as_array, short
from proximo.errors import Misfit

SUCCESS, COST = "is_success", "cost"
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
