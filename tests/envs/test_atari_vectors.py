"""Atari in ale-py's vector and in EnvPool's: the same transitions, bit for bit, from a shared moment on.

ale-py presses fire and then idles for up to 29 frames; EnvPool idles for 1 to 30 frames and then fires. So no
seed gives both the same start. But a few idle steps later some game of the one is where a game of the other
is: their last four frames are equal. From there both are played with the same actions.
"""

from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("ale_py")
pytest.importorskip("envpool")

from proximo.envs import make_envs

GAMES = 3  # played side by side, until one has a moment in common with one of the other vector
IDLE = 12  # steps in which to look for it


class Played(NamedTuple):
    """What each step gave: frames [T, N, 4, 84, 84], all else [T, N]."""

    frames: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    over: np.ndarray
    lives: np.ndarray

    def of(self, game, after):
        """One of the games, from a step on."""
        return Played(*(part[after:, game] for part in self))


def played(name, actions):
    """Play `GAMES` games with the same actions."""
    rows = []
    with make_envs(name, GAMES, vectorization_mode="vector_entry_point") as envs:
        envs.life_loss = True
        envs.reset(range(GAMES))
        for action in actions:
            step = envs.step(np.full(GAMES, action))
            flags = (step.reward, step.terminated, step.truncated, step.over, envs.lives)
            rows.append([np.array(part) for part in (step.obs, *flags)])
    return Played(*map(np.stack, zip(*rows, strict=True)))


def shared_moments(name):
    """Pairs of (game, idle steps), in ale-py's vector and in EnvPool's, after which both see the same."""
    frames, others = (played(vector, [0] * IDLE).frames for vector in (name, f"envpool/{name}-v5"))
    places = [(game, row) for row in range(IDLE) for game in range(GAMES)]
    game, row = max((game, row) for game, row in places if any_equal(frames[row, game], others))
    return [
        ((game, row + 1), (other, at + 1))
        for other, at in places
        if np.array_equal(frames[row, game], others[at, other])
    ]


def any_equal(stack, stacks):
    """Whether one of the stacks [T, N, 4, 84, 84] is this one."""
    return bool((stacks == stack).all(axis=(2, 3, 4)).any())


@pytest.mark.parametrize(("name", "lives", "steps"), [("Breakout", 5, 160), ("Qbert", 4, 500)])
def test_both_vectors_give_the_same_transitions(name, lives, steps):
    with make_envs(name, 1, vectorization_mode="vector_entry_point") as envs:
        actions = np.random.default_rng(0).integers(0, envs.spaces[1].n, steps).tolist()
    # Two games may look alike while the console's clock differs, which shows in the next steps. What is equal
    # for a whole game is the same game.
    for (game, idle), (other, other_idle) in shared_moments(name):
        ale = played(name, [0] * idle + actions).of(game, idle)
        pool = played(f"envpool/{name}-v5", [0] * other_idle + actions).of(other, other_idle)
        end = int(np.argmax(ale.over))  # the row in which the game ends
        if np.array_equal(ale.frames[:end], pool.frames[:end]):
            break
    assert ale.over[end]
    np.testing.assert_array_equal(ale.frames[:end], pool.frames[:end])
    for part, theirs in zip(ale[1:], pool[1:], strict=True):
        np.testing.assert_array_equal(part[: end + 1], theirs[: end + 1])
    # A game may end while an action is held, and the two then draw the newest frame a moment apart. Nothing
    # is learned from it: it follows the end.
    np.testing.assert_array_equal(ale.frames[end, :-1], pool.frames[end, :-1])
    assert np.mean(ale.frames[end, -1] != pool.frames[end, -1]) < 0.03
    # This was a whole game: raw scores, and every life lost once, the last one with the game.
    assert ale.rewards.max() >= 1 and ale.terminated[: end + 1].sum() == lives
    assert ale.lives[end] == 0
    for vector in (ale, pool):  # the row after the end: its action is ignored, the next game begins
        assert (vector.rewards[end + 1], vector.over[end + 1]) == (0, False)
        assert vector.lives[end + 1] == lives


def test_spaces_are_equal_and_the_first_frames_are_not():
    with (
        make_envs("Breakout", 1, vectorization_mode="vector_entry_point") as ale,
        make_envs("envpool/Breakout-v5", 1) as pool,
    ):
        assert ale.spaces == pool.spaces and ale.seam_rows and pool.seam_rows
        first, other = ale.reset([0])[0], pool.reset([0])[0]
        assert first[-1].any() and not first[:-1].any()  # what was before the start is black
        assert all(np.array_equal(frame, other[-1]) for frame in other)  # it is the first frame
