"""Values that an environment returned, in the words of a message."""

from typing import Any

import numpy as np


def one_line(value: Any, longest: int = 80) -> str:
    """A value as text on one line."""
    text = " ".join(f"{value!r}".split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short(value: Any) -> str:
    """A value and its type on one line."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"the {type(value).__name__} {one_line(value, 40)}"


def as_array(value: Any) -> np.ndarray | None:
    """What NumPy makes of it; None where it cannot."""
    try:
        return np.asarray(value)
    except Exception:  # ragged lists, and whatever an object of theirs does when it is asked
        return None
