"""One thing that a check of an environment has to say."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one check found.

    level    "error": training would fail or mislead; "warning": it may learn badly, or another library would
             refuse it; "ok": looked at, nothing to change
    name     what was looked at
    message  what is wrong and what to change
    """

    level: Literal["error", "warning", "ok"]
    name: str
    message: str
