"""Which tests take long: `make slow` runs the suite and writes their names into `tests/slow.txt`.

`make check` leaves them out. A test that takes longer than LONGEST seconds in any of its cases is one.
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LONGEST = 0.2
NAMES = Path(__file__).with_suffix(".txt")


def slow_ones(report: Path) -> list[str]:
    """The names in a report of pytest's `--junitxml`, as `tests/core/test_returns.py::test_name`."""
    cases = ET.parse(report).getroot().iter("testcase")
    slow = [case for case in cases if float(case.get("time", 0.0)) > LONGEST]
    files = (f"{case.get('classname', '').replace('.', '/')}.py" for case in slow)
    return sorted(
        {f"{file}::{case.get('name', '').partition('[')[0]}" for file, case in zip(files, slow, strict=True)}
    )


if __name__ == "__main__":
    NAMES.write_text("\n".join(slow_ones(Path(sys.argv[1]))) + "\n")
