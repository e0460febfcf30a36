"""The pictures of `docs/paper.md`: what they show is true, they are the same each time, and none is stale."""

import re
from importlib import metadata
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.pictures import (
    DELAYS,
    GAMMA,
    LIMITS,
    MAX_KL,
    PICTURES,
    SURROGATES,
    draw,
    of_moved_mean,
    of_ratio,
    trust_region_step,
    weights,
)
from proximo.core import Clip, KLPenalty, Unclipped

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "docs" / "paper"
LARGEST = 60_000  # bytes

NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
HASHED = r"\b[mp][0-9a-f]{10}\b"  # matplotlib names what it draws by a hash of all its digits


def test_the_clipped_surrogate_is_flat_beyond_its_range():
    ratio, value = of_ratio(Clip(0.2))(1.0)
    np.testing.assert_allclose(value, np.minimum(ratio, 1.2), rtol=1e-5)
    ratio, value = of_ratio(Clip(0.2))(-1.0)
    np.testing.assert_allclose(value, -np.maximum(ratio, 0.8), rtol=1e-5)


def test_ratio_and_kl_belong_together():
    # Mean m, action 1, std 1: log r = m - m^2 / 2 and KL = m^2 / 2, so with beta 3 the price is 1.5 m^2.
    ratio, value = of_moved_mean(KLPenalty(3.0))(-1.0)
    mean = np.linspace(-1.4, 0.9, 201)
    np.testing.assert_allclose(ratio, np.exp(mean - mean**2 / 2), rtol=1e-5)
    np.testing.assert_allclose(value, -ratio - 1.5 * mean**2, rtol=1e-4)
    assert np.all(of_moved_mean(Unclipped())(-1.0)[1] >= value)


def test_all_surrogates_can_be_seen_where_they_are_drawn():
    assert SURROGATES.keys() == LIMITS.keys()
    for name, lines in SURROGATES.items():
        for advantage, (largest, lowest, highest) in zip((1.0, -1.0), LIMITS[name], strict=True):
            for _, _, _, points in lines:
                ratio, value = points(advantage)
                at_start = float(jnp.interp(1.0, ratio, value))
                assert largest > 1.0 and lowest < at_start < highest


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
def test_the_weight_of_a_later_error(lam):
    np.testing.assert_allclose(
        weights(lam, GAMMA, DELAYS), (GAMMA * lam) ** np.arange(61), rtol=1e-5, atol=1e-12
    )


def test_the_step_of_the_trust_region():
    step = trust_region_step(MAX_KL)
    for vector in (step.plain, step.natural):
        np.testing.assert_allclose(0.5 * vector @ step.product(vector), MAX_KL, rtol=1e-4)
    # As the page says: the full step misses the bound, the next shorter one keeps it.
    assert step.evaluate(step.old + step.natural)[1] > MAX_KL
    assert step.found.accepted and step.found.backtracks == 1
    assert step.found.kl <= MAX_KL and step.found.improvement > 0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("pictures")
    return draw(folder)


def test_they_are_all_made_and_small(drawn):
    assert {path.name for path in drawn} == {f"{name}.{end}" for name in PICTURES for end in ("svg", "png")}
    assert all(1000 < path.stat().st_size < LARGEST for path in drawn)


def test_the_same_bytes_twice(drawn, tmp_path):
    again = [path for path in draw(tmp_path) if path.suffix == ".svg"]
    assert {path.name: path.read_bytes() for path in again} == {
        path.name: path.read_bytes() for path in drawn if path.suffix == ".svg"
    }


def same(one, other):
    """Whether two drawings differ by no more than the rounding of another processor."""
    one, other = (re.sub(HASHED, "", text) for text in (one, other))
    numbers = [np.array(re.findall(NUMBER, text), float) for text in (one, other)]
    return re.sub(NUMBER, "", one) == re.sub(NUMBER, "", other) and np.allclose(*numbers, atol=0.02)


def pinned():
    """The versions that the tests run with, by the packages' names."""
    return dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))


def test_no_picture_is_stale(drawn):
    if metadata.version("matplotlib") != pinned()["matplotlib"]:
        pytest.skip("another version of matplotlib draws otherwise")
    assert {path.name for path in drawn} == {path.name for path in COMMITTED.iterdir()}
    stale = [
        path.name
        for path in drawn
        if path.suffix == ".svg" and not same(path.read_text(), (COMMITTED / path.name).read_text())
    ]
    assert stale == [], "draw them again: python -m benchmarks.pictures"


def test_a_stale_picture_is_seen():
    assert same("M 1.001 2 id=m0123456789", "M 1.002 2 id=mabcdef0123")
    assert not same("M 1.1 2", "M 1.2 2")
    assert not same("M 1 2", "M 1 2 3")
    assert not same("clip:0.2 <path>", "clip <path>")
