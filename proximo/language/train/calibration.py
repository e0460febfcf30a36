"""Calibration: an event with a predicted probability of 0.8 should happen in 8 of 10 cases."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

BINS = 10


class Share(NamedTuple):
    """A share of cases with its 95% interval."""

    value: float
    low: float
    high: float


def share_with_interval(happened: int, count: int) -> Share:
    """The share `happened` of `count` cases, with Wilson's interval (1927).

    8 of 10: 0.8, between 0.490 and 0.943.
    """
    interval = stats.binomtest(happened, count).proportion_ci(0.95, method="wilson")
    return Share(happened / count, float(interval.low), float(interval.high))


def calibration(
    probabilities: Float[np.ndarray, "N"], outcomes: Float[np.ndarray, "N"], bins: int = BINS
) -> dict[str, Any]:
    """How often predictions come true, per bin of probability, as plain data.

    expected calibration error = sum over bins of count / N |predicted - observed|   (Guo et al. 2017, eq. 3)

    A probability p below 1/2 counts as 1 - p for the opposite outcome, so bins go from 1/2 to 1. The result
    then does not depend on the order of the two answers in a pair.

    probabilities  predicted probabilities of an event
    outcomes       1 if it happened, 0 if not

    Returns `accuracy` (how often the more likely outcome came true) with its interval, `log_loss` in nats,
    `expected_calibration_error`, and `bins` with `low`, `high`, `count`, and the means `predicted` and
    `observed`; empty bins are left out.
    """
    said = np.asarray(probabilities, np.float64)
    sided = np.where(said >= 0.5, outcomes, 1.0 - outcomes)
    confidence = np.maximum(said, 1.0 - said)
    edges = np.linspace(0.5, 1.0, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    rows = []
    for place in np.unique(places):
        inside = places == place
        rows.append(
            {
                "low": float(edges[place]),
                "high": float(edges[place + 1]),
                "count": int(inside.sum()),
                "predicted": float(confidence[inside].mean()),
                "observed": float(sided[inside].mean()),
            }
        )
    happened = np.clip(np.where(sided > 0.5, confidence, 1.0 - confidence), 1e-300, 1.0)
    gaps = [row["count"] * abs(row["predicted"] - row["observed"]) for row in rows]
    return {
        "count": len(said),
        "accuracy": share_with_interval(int(sided.sum()), len(said))._asdict(),
        "log_loss": float(-np.log(happened).mean()),
        "expected_calibration_error": float(sum(gaps) / len(said)),
        "bins": rows,
    }
