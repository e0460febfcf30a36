"""Numbers that a program computed or a person wrote, as the plain ones that options and files are made of."""

import contextlib
import re
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
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


SHORT_NUMBER = re.compile(r"[+-]?[0-9][0-9_]*(\.[0-9_]+)?(e[+-]?[0-9]+)?[kmb]?", re.IGNORECASE)
POWERS = {"k": 3, "m": 6, "b": 9}


def whole_number(text: str) -> int:
    """A whole number as people write it: `1000000`, `1_000_000`, `1e6`, `1M`, `500k`.

    Raises ValueError for what is none, such as 1.5.
    """
    plain_text = text.strip()
    if SHORT_NUMBER.fullmatch(plain_text):
        power = POWERS.get(plain_text[-1].lower(), 0)
        with contextlib.suppress(ArithmeticError):  # it is too large for any use
            number = Decimal(plain_text[:-1] if power else plain_text).scaleb(power)
            if number.adjusted() < DIGITS and number == number.to_integral_value():
                return int(number)
    raise ValueError(f"{text!r} is not a whole number: write 1000000, 1_000_000, 1e6, 1M or 500k")


DIGITS = 25  # Decimal keeps so many exactly; 1e9999 written out would fill the memory
