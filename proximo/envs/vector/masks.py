"""Which actions of an environment are legal, in whichever form it tells that."""

from collections.abc import Collection, Iterator
from functools import cache
from math import prod
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from proximo.envs.vector.printed import as_array, short
from proximo.envs.vector.trees import Path, leaves, name_of, tree_of
from proximo.errors import Misfit

MASK = "action_mask"  # in an info, or as a part of an observation
METHOD = "action_masks"  # of an environment, as sb3-contrib has it
NOWHERE, IN_INFO, BY_METHOD, IN_OBSERVATION = "", "info", "method", "observation"
PLACES = {
    IN_INFO: f"its info has an {MASK!r}",
    BY_METHOD: f"it has a method {METHOD}()",
    IN_OBSERVATION: f"its observation has a part {MASK!r}",
}
MOST_COMBINATIONS = 4096  # of choices that depend on each other; each has a logit
TOLD = 1  # a code of masks of independent choices; bit i + 1 says that the choices of part i are dependent
LATE = f"its info has an {MASK!r} in step(), and none in reset(); return one in both"


class Choice(NamedTuple):
    """A part of an action that is chosen from finitely many values.

    path   its keys in the action
    sizes  values of each of its components
    shape  of a mask of all combinations, which makes the components depend on each other; None for one
    """

    path: Path
    sizes: tuple[int, ...]
    shape: tuple[int, ...] | None
    switches: bool = False

    def count(self, joint: bool) -> int:
        """How many flags a mask of it has."""
        return prod(self.sizes) if joint else sum(self.sizes)

    def starts(self, joint: bool) -> list[int]:
        """Where the flags of each component begin, of which one must be legal."""
        return [0] if joint else [sum(self.sizes[:k]) for k in range(len(self.sizes))]


def choices(space: gym.Space) -> list[Choice]:
    """The parts of an action that may have illegal values."""
    found = []
    for path, leaf in leaves(space):
        if isinstance(leaf, spaces.Discrete):
            found.append(Choice(path, (int(leaf.n),), None))
        elif isinstance(leaf, spaces.MultiDiscrete):
            sizes = tuple(int(n) for n in leaf.nvec.flat)
            found.append(Choice(path, sizes, sizes if len(sizes) > 1 else None))
        elif isinstance(leaf, spaces.MultiBinary):
            found.append(Choice(path, (2,) * int(np.prod(leaf.shape)), None, switches=True))
    return found


class Masks:
    """Reads masks of an action space.

    parts  its choices; where there is none, nothing can be illegal
    room   flags that the largest form of mask has
    open   whether only a mask shows if choices depend on each other

    Masks come as `code` says: one flag for each value of each component (two for a switch), or of the
    choices of some parts one flag for each combination.
    """

    def __init__(self, space: gym.Space) -> None:
        self.parts = choices(space)
        self.nested = bool(self.parts) and self.parts[0].path != ()
        self.room = sum(max(part.count(False), _combinations(part)) for part in self.parts)
        self.open = any(part.shape is not None for part in self.parts)
        self._starts = cache(self._all_starts)

    def source(self, env: gym.Env, obs: Any, info: Any) -> str:
        """Where an environment tells, after a reset: IN_INFO, BY_METHOD, IN_OBSERVATION, with spaces between
        several; NOWHERE."""
        if not self.parts:
            return NOWHERE
        here = {
            IN_INFO: isinstance(info, dict) and info.get(MASK) is not None,
            BY_METHOD: env.has_wrapper_attr(METHOD),
            IN_OBSERVATION: isinstance(obs, dict) and MASK in obs,
        }
        return " ".join(place for place, told in here.items() if told)

    def code_for(self, names: Collection[str]) -> int:
        """Of masks that make the choices of the parts of these names depend on each other."""
        return TOLD | sum(2 << i for i, part in enumerate(self.parts) if name_of(part.path) in names)

    def code(self, source: str, env: gym.Env, obs: Any, info: Any) -> int:
        """Of the masks that an environment tells in the first of its places, after a reset. Raises Misfit."""
        return self.code_of(told_in(source.split()[0], env, obs, info))

    def code_of(self, mask: Any) -> int:
        """Which choices a mask makes depend on each other: those whose flags have the shape of `nvec`.

        Raises Misfit for too many combinations.
        """
        code = TOLD
        for index, (part, given) in enumerate(self._given(mask)):
            if part.shape is None or given is None or isinstance(given, tuple):
                continue
            flags = as_array(given)
            if flags is not None and flags.shape == part.shape:
                if prod(part.shape) > MOST_COMBINATIONS:
                    raise Misfit(
                        f"its action mask has a flag for each of {prod(part.shape):,} combinations, and at "
                        f"most {MOST_COMBINATIONS:,} are supported; return one for each value of each choice "
                        f"({sum(part.sizes)}), or split the action into two steps"
                    )
                code |= 2 << index
        return code

    def dependent(self, code: int) -> list[str]:
        """The names of the parts whose choices depend on each other."""
        return [name_of(part.path) for index, part in enumerate(self.parts) if code & (2 << index)]

    def count(self, code: int) -> int:
        """How many flags such masks have."""
        return sum(part.count(bool(code & (2 << i))) for i, part in enumerate(self.parts))

    def now(self, source: str, code: int, env: gym.Env, obs: Any, info: Any, ended: bool) -> np.ndarray:
        """An environment's legal actions, as `legal` gives them. Raises Misfit."""
        first, *others = source.split()
        found = self.legal(told_in(first, env, obs, info), ended, code)
        for other in () if ended else others:
            again = self.legal(told_in(other, env, obs, info), ended, code)
            require_equal(found, again, first, other)
        return found

    def legal(self, mask: Any, ended: bool, code: int) -> np.ndarray:
        """A mask as bool [M], the flags of all parts one after another. Raises Misfit.

        ended  whether the episode has: the next action is ignored, so where the mask is missing (None) or
               leaves nothing, everything is legal
        """
        if mask is None:
            if ended:
                return np.ones(self.count(code), bool)
            raise Misfit(f"its info has no {MASK!r}, which it had at the reset; return one in every step")
        flags = [
            _flags(part, given, bool(code & (2 << index)))
            for index, (part, given) in enumerate(self._given(mask))
        ]
        found = flags[0] if len(flags) == 1 else np.concatenate(flags)
        if np.logical_or.reduceat(found, self._starts(code)).all():
            return found
        if ended:
            return np.ones(self.count(code), bool)
        part = "" if len(self._starts(code)) == 1 else " for one part of the action"
        raise Misfit(f"its action mask allows no action{part}; allow one, or end the episode")

    def sample(self, space: gym.Space, legal: np.ndarray, code: int) -> Any:
        """A random legal action, by the random generator of each part of the space."""
        drawn, place = {}, 0
        for index, part in enumerate(self.parts):
            joint = bool(code & (2 << index))
            flags = legal[place : place + part.count(joint)]
            drawn[part.path], place = (flags, joint), place + len(flags)

        def one(path: Path, part: Any) -> Any:
            return _sample(part, *drawn[path]) if path in drawn else part.sample()

        return tree_of(space, one)

    def allow(self, space: gym.Space, legal: np.ndarray, code: int, action: Any) -> bool:
        """Whether an action of the space is among the legal ones."""
        spaces_of, place = dict(leaves(space)), 0
        for index, part in enumerate(self.parts):
            joint = bool(code & (2 << index))
            flags = legal[place : place + part.count(joint)]
            place += len(flags)
            chosen = action
            for key in part.path:
                chosen = chosen[key]
            values = np.reshape(chosen - getattr(spaces_of[part.path], "start", 0), -1).astype(np.int64)
            if joint:
                values = np.ravel_multi_index(tuple(values[:, None]), part.sizes)
            if not flags[part.starts(joint) + values].all():
                return False
        return True

    def _all_starts(self, code: int) -> np.ndarray:
        starts, place = [], 0
        for index, part in enumerate(self.parts):
            joint = bool(code & (2 << index))
            starts += [place + start for start in part.starts(joint)]
            place += part.count(joint)
        return np.array(starts, np.int64)

    def _given(self, mask: Any) -> Iterator[tuple[Choice, Any]]:
        """What a mask says of each part; None where it says nothing of it. Raises Misfit."""
        if not self.nested:
            yield self.parts[0], mask
            return
        flat = None if isinstance(mask, dict | tuple) else _numbers(mask)
        if flat is not None:
            ends = np.cumsum([part.count(False) for part in self.parts])
            if flat.size != ends[-1]:
                raise _unfit(mask, int(ends[-1]))
            yield from zip(self.parts, np.split(flat.reshape(-1), ends[:-1]), strict=True)
            return
        _require_known(mask, [part.path for part in self.parts])
        for part in self.parts:
            given = mask
            for key in part.path:
                given = given.get(key) if isinstance(given, dict) else None if given is None else given[key]
            yield part, given


def _sample(space: Any, flags: np.ndarray, joint: bool) -> Any:
    """A random value of a choice, whose flags are of each value, or of each combination."""
    if isinstance(space, spaces.Discrete):
        return space.sample(mask=flags.astype(np.int8))
    sizes = np.full(space.shape, 2) if isinstance(space, spaces.MultiBinary) else space.nvec
    if joint:
        index = space.np_random.choice(np.flatnonzero(flags))
        chosen = list(np.unravel_index(index, sizes.reshape(-1)))
    else:
        cuts = np.split(flags, np.cumsum(sizes.reshape(-1))[:-1])
        chosen = [space.np_random.choice(np.flatnonzero(cut)) for cut in cuts]
    return np.asarray(
        chosen + getattr(space, "start", np.zeros(sizes.shape, int)).reshape(-1), space.dtype
    ).reshape(space.shape)


def told_in(place: str, env: gym.Env, obs: Any, info: Any) -> Any:
    """The mask that an environment tells in one place; None where it is missing."""
    if place == BY_METHOD:
        return env.get_wrapper_attr(METHOD)()
    if place == IN_INFO:
        return info.get(MASK) if isinstance(info, dict) else None
    return obs[MASK]


def require_equal(one: np.ndarray, other: np.ndarray, place: str, elsewhere: str) -> None:
    """Raise Misfit where two places do not tell the same mask."""
    if not np.array_equal(one, other):
        at = int(np.flatnonzero(one != other)[0])
        raise Misfit(
            f"{places_in_words(f'{place} {elsewhere}')}, and they differ in flag {at}; tell which actions "
            "are legal in one place"
        )


def bits_of(source: str) -> int:
    """A source as a number, as shared memory holds it."""
    return sum(1 << i for i, place in enumerate(PLACES) if place in source.split())


def source_of(bits: int) -> str:
    """The inverse of `bits_of`."""
    return " ".join(place for i, place in enumerate(PLACES) if bits & (1 << i))


def places_in_words(source: str) -> str:
    """Such as "its info has an 'action_mask'"."""
    return " and ".join(PLACES[place] for place in source.split())


def _combinations(part: Choice) -> int:
    count = 0 if part.shape is None else prod(part.shape)
    return count if count <= MOST_COMBINATIONS else 0


def _flags(part: Choice, mask: Any, joint: bool) -> np.ndarray:
    """What a mask says of one part, bool. Raises Misfit."""
    size = part.count(joint)
    if mask is None:
        return np.ones(size, bool)
    flags = _numbers(mask)
    where = f" of {name_of(part.path)!r}" if part.path else ""
    if part.switches and flags is not None and flags.size * 2 == size and not isinstance(mask, tuple):
        forced = flags.reshape(-1)  # as Gymnasium samples switches: 0 and 1 are forced, 2 is free
        if np.isin(forced, (0, 1, 2)).all():
            return np.stack([forced != 1, forced != 0], -1).reshape(-1)
    if flags is None or flags.size != size or (joint and flags.shape not in (part.shape, (size,))):
        raise _unfit(mask, size, where, part.shape if joint else None)
    flags = flags.reshape(-1)
    found = flags.astype(bool)
    if (found != flags).any():
        raise Misfit(f"its action mask{where} has values other than 0 and 1; return only these")
    return found


def _unfit(mask: Any, size: int, where: str = "", shape: Any = None) -> Misfit:
    what = f"its action mask{where} is {short(mask)}, its action space has {size} "
    remedy = f"return an int8 array of shape {shape or (size,)}"
    return Misfit(f"{what}{'combinations' if shape else 'values'}; {remedy}")


def _require_known(mask: Any, paths: list[Path]) -> None:
    """Raise Misfit where the dicts of a mask have parts that no choice of the action is at."""
    if isinstance(mask, dict):
        for key, inside in mask.items():
            under = [path[1:] for path in paths if path and path[0] == key]
            if not under and inside is not None:
                raise Misfit(
                    f"its action mask has a part {key!r}, which is no choice of its action; leave it out"
                )
            if any(under):
                _require_known(inside, under)


def _numbers(mask: Any) -> np.ndarray | None:
    """A mask as an array of numbers, a tuple of one for each component as one row; None if neither."""
    if not isinstance(mask, tuple):
        array = as_array(mask)
        return array if array is not None and array.dtype.kind in "biuf" else None
    parts = [as_array(part) for part in mask]
    flat = [part.reshape(-1) for part in parts if part is not None and part.dtype.kind in "biuf"]
    return np.concatenate(flat) if len(flat) == len(parts) > 0 else None
