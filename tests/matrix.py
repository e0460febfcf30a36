"""The whole matrix: every observation with every action, network and mask, each trained for two iterations.

    python -m tests.matrix              # all that has not passed yet; Ctrl-C, and the same again goes on
    python -m tests.matrix --again      # all, from the start
    python -m tests.matrix text lstm    # only those with these kinds

It prints a line for each combination, then those that failed. What passed is kept in .pytest_cache/matrix
until a file of the package changes.
"""

import hashlib
import sys
import time
from pathlib import Path

import tests.conftest  # noqa: F401 - JAX as in the tests, before the package is imported

# isort: split
import gc

import jax

from tests.combinations import check, every_combination

ROOT = Path(__file__).resolve().parent.parent
CLEARED = 40  # combinations whose compiled programs are held at once


def passed_file():
    """Where it is kept what has passed with this state of the package and of these checks."""
    files = sorted([*(ROOT / "proximo").rglob("*.py"), ROOT / "tests" / "combinations.py"])
    found = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    return ROOT / ".pytest_cache" / "matrix" / found


def main(words):
    """Try the combinations that have the kinds named, or all; returns the exit status."""
    kept, kinds = passed_file(), set(words) - {"--again"}
    kept.parent.mkdir(parents=True, exist_ok=True)
    passed = set() if "--again" in words or not kept.exists() else set(kept.read_text().splitlines())
    every = [one for one in every_combination() if kinds <= set(one)]
    if not every:
        print(f"no combination has {' and '.join(sorted(kinds))}", file=sys.stderr)
        return 2
    failed = []
    for number, one in enumerate(every, 1):
        name = " | ".join(kind or "no mask" for kind in one)
        if name in passed:
            continue
        start, fault = time.monotonic(), ""
        try:
            check(*one)
        except Exception as error:  # whatever it is, the others are tried
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            failed.append(f"{name}: {fault}")
        else:
            with kept.open("a") as file:
                file.write(f"{name}\n")
        print(f"{number}/{len(every)} {name}: {fault or 'ok'} ({time.monotonic() - start:.1f} s)", flush=True)
        if number % CLEARED == 0:
            jax.clear_caches()
            gc.collect()
    print(f"{len(every) - len(failed)} of {len(every)} combinations hold", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
