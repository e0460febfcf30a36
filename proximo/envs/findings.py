"""What a check of an environment reports."""

from dataclasses import dataclass
from functools import partial
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one check found.

    level    "error": training would fail or mislead; "warning": it may learn badly, or another library would
             refuse it; "ok": checked, nothing to change
    name     what was checked
    message  what is wrong and what to change
    """

    level: Literal["error", "warning", "ok"]
    name: str
    message: str


error, warning, ok = (partial(Finding, level) for level in ("error", "warning", "ok"))
