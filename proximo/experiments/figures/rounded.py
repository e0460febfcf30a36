"""Numbers of a figure, as few digits as a picture needs."""

from typing import Any

import numpy as np

DIGITS = 5  # significant ones


def rounded(values: Any) -> Any:
    """Arrays as lists of plain numbers; what is not finite is None, which charts leave out."""
    array = np.asarray(values)
    if array.ndim:
        return [rounded(value) for value in array]
    if array.dtype.kind in "iub":
        return array.item()
    return float(f"{float(array):.{DIGITS}g}") if np.isfinite(array) else None
