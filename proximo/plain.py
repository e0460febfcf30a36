"""Numbers that a program computed, as the plain ones that options, files and messages are made of."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import jax
import numpy as np


def plain(value: Any) -> Any:
    """NumPy's and JAX's numbers as Python's own, also within lists, tuples and dataclasses.

    An array becomes a list. All else comes back as it is.
    """
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name, None) for field in fields(value)}
        changed = {name: plain(one) for name, one in found.items() if plain(one) is not one}
        return replace(value, **changed) if changed else value
    return value
