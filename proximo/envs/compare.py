"""What tells an environment from the one that an agent was trained on, part by part."""

import warnings
from collections.abc import Iterator
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces

from proximo.envs.description import EnvDescription
from proximo.envs.host import HostEnvs
from proximo.errors import EnvironmentDiffers, UserError


class Difference(NamedTuple):
    """One part in which two environments differ.

    text    in words: what it is here, and what the agent knows
    grave   whether the same numbers would mean something else. What is not grave can be played: numbers
            beyond the agent's experience, actions clipped at other bounds
    """

    text: str
    grave: bool


def check_fits(
    recorded: EnvDescription, known: tuple[Space, Space], envs: HostEnvs, *, exact: bool = False
) -> None:
    """Compare environments with those that an agent was trained on.

    recorded, known  what these were, and their observation and action space
    exact            whether they have to be the same, as for a run that goes on

    Raises UserError where observations or actions would mean something else; warns, in one line, of what else
    differs.
    """
    here, found = envs.description.name, list(space_differences(known, envs.spaces))
    grave = [difference.text for difference in found if difference.grave]
    if grave:
        raise UserError(
            f"{here} has other observations or actions than {recorded.name}, where the agent was trained: "
            + "; ".join(grave[:3])
        )
    others = differences(recorded, envs.description)
    if others and exact:
        raise UserError(f"the run is of another environment: {'; '.join(others[:3])}")
    texts = [*others, *(difference.text for difference in found)]
    if texts:
        warnings.warn(
            f"{here} is not quite the {recorded.name} that the agent was trained on: {'; '.join(texts[:3])}",
            EnvironmentDiffers,
            stacklevel=3,
        )


def space_differences(known: tuple[Space, Space], here: tuple[Space, Space]) -> Iterator[Difference]:
    """How observation and action spaces differ: here, and where the agent was trained."""
    for name, before, now in zip(("observation", "action"), known, here, strict=True):
        yield from _between(before, now, f"the {name}")


def differences(recorded: EnvDescription, found: EnvDescription) -> list[str]:
    """How two descriptions differ, in words."""
    if recorded.only_name:
        same = recorded.name == found.name or "<" in recorded.name  # a function's name says nothing
        return [] if same else [f"it is {found.name}, not {recorded.name}"]
    if recorded.name != found.name and None in (recorded.obstacle, found.obstacle):
        return [f"it is {found.name}, not {recorded.name}"]
    texts = []
    for name in dict.fromkeys((*recorded.kwargs, *found.kwargs)):
        now, before = (_shown(one.kwargs, name) for one in (found, recorded))
        if now != before:
            texts.append(f"{name} is {now}, in training it was {before}")
    if [name for name, _ in recorded.wrappers] != [name for name, _ in found.wrappers]:
        now, before = (" in ".join(name for name, _ in one.wrappers) or "none" for one in (found, recorded))
        texts.append(f"its wrappers are {now}, in training they were {before}")
    elif recorded.wrappers != found.wrappers:
        pairs = zip(recorded.wrappers, found.wrappers, strict=True)
        name, old, new = next((b[0], b[1], n[1]) for b, n in pairs if b != n)
        texts.append(f"its wrapper {name} has {dict(new)}, in training {dict(old)}")
    layers = (recorded.layers, found.layers)
    if all(layers) and not texts and not _same_layers(*layers):
        now, before = (" in ".join(layer.partition("@")[0] for layer in one[::-1]) for one in layers[::-1])
        other = f"another {now} than in training" if now == before else f"{now}, in training it was {before}"
        texts.append(f"it is {other}")
    return texts


def _shown(kwargs: Any, name: str) -> str:
    return repr(kwargs[name]) if name in kwargs else "not given"


def _same_layers(recorded: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """The same classes; of one in a script that was run, no module is known."""

    def same(one: str, other: str) -> bool:
        (name, _, module), (other_name, _, other_module) = one.partition("@"), other.partition("@")
        return name == other_name and (module == other_module or "" in (module, other_module))

    return len(recorded) == len(found) and all(map(same, recorded, found))


# ---- spaces


def _between(known: Space, here: Space, name: str) -> Iterator[Difference]:
    """How a space differs from the one that is known; `name` is what to call it."""
    if type(known) is not type(here):
        yield Difference(f"{name} is a {type(here).__name__}, not a {type(known).__name__}", True)
    else:
        yield from _of_a_kind(known, here, name)


@singledispatch
def _of_a_kind(known: Any, here: Any, name: str) -> Iterator[Difference]:
    """How two spaces of one kind differ; later kinds join with `_of_a_kind.register`."""
    if known != here:
        yield Difference(f"{name} is {here}, not {known}", True)


@_of_a_kind.register
def _(known: spaces.Box, here: spaces.Box, name: str) -> Iterator[Difference]:
    if known.shape != here.shape:
        yield Difference(f"{name} has shape {here.shape}, not {known.shape}", True)
        return
    if known.dtype != here.dtype:
        yield Difference(f"{name} is {here.dtype}, not {known.dtype}", False)
    for side, before, now in (("low", known.low, here.low), ("high", known.high, here.high)):
        if not np.array_equal(before, now):
            at = int(np.flatnonzero(np.ravel(before != now))[0])
            where = f"[{at}]" if np.size(before) > 1 else ""
            yield Difference(
                f"the {side}{where} of {name} is {np.ravel(now)[at]:g}, not {np.ravel(before)[at]:g}", False
            )


@_of_a_kind.register
def _(known: spaces.Discrete, here: spaces.Discrete, name: str) -> Iterator[Difference]:
    if known.n != here.n:
        yield Difference(f"{name} has {here.n} values, not {known.n}", True)
    if known.start != here.start:
        yield Difference(f"{name} starts at {here.start}, not at {known.start}", True)


@_of_a_kind.register
def _(known: spaces.MultiDiscrete, here: spaces.MultiDiscrete, name: str) -> Iterator[Difference]:
    for what, before, now in (("values", known.nvec, here.nvec), ("start", known.start, here.start)):
        if not np.array_equal(before, now):
            yield Difference(f"{name} has the {what} {now.tolist()}, not {before.tolist()}", True)


@_of_a_kind.register
def _(known: spaces.MultiBinary, here: spaces.MultiBinary, name: str) -> Iterator[Difference]:
    if known.shape != here.shape:
        yield Difference(f"{name} has shape {here.shape}, not {known.shape}", True)


@_of_a_kind.register
def _(known: spaces.Dict, here: spaces.Dict, name: str) -> Iterator[Difference]:
    before, now = list(known.spaces), list(here.spaces)
    if before != now:
        how = "order" if sorted(before, key=str) == sorted(now, key=str) else "parts"
        yield Difference(
            f"{name} has the {how} {', '.join(map(str, now))}, not {', '.join(map(str, before))}", True
        )
        return
    for key in before:
        yield from _between(known[key], here[key], f"{name} {key!r}")


@_of_a_kind.register
def _(known: spaces.Tuple, here: spaces.Tuple, name: str) -> Iterator[Difference]:
    if len(known.spaces) != len(here.spaces):
        yield Difference(f"{name} has {len(here.spaces)} parts, not {len(known.spaces)}", True)
        return
    for index, (before, now) in enumerate(zip(known.spaces, here.spaces, strict=True)):
        yield from _between(before, now, f"{name} {index}")
