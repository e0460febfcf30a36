"""The differences between an environment and the one that an agent was trained on, part by part."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces

from proximo.envs.description import EnvDescription
from proximo.envs.host import HostEnvs
from proximo.envs.parts import without
from proximo.envs.vector.trees import children
from proximo.errors import EnvironmentDiffers, UserError


class Difference(NamedTuple):
    """One part in which two environments differ.

    text    in words: what it is here, and what it was in training
    grave   whether the same numbers would mean something else. What is not grave can be played: numbers
            beyond the agent's experience, actions clipped at other bounds
    """

    text: str
    grave: bool


def check_fits(
    recorded: EnvDescription,
    known: tuple[Space, Space],
    envs: HostEnvs,
    *,
    exact: bool = False,
    unseen: Sequence[str] = (),
) -> None:
    """Compare environments with those that an agent was trained on.

    recorded, known  what these were, and their observation and action space
    exact            whether they have to be the same, as for a resumed run
    unseen           parts of observations that nobody is to see, which may be missing here

    Raises UserError where observations or actions would mean something else; warns, in one line, of what else
    differs.
    """
    pairs = [(without(observation, unseen), action) for observation, action in (known, envs.spaces)]
    here, found = envs.description.name, list(space_differences(*pairs))
    grave = [difference.text for difference in found if difference.grave]
    if grave:
        other = f"{here} has different observations or actions than {recorded.name}"
        raise UserError(f"{other}, on which the agent was trained: {'; '.join(grave[:3])}")
    others = differences(recorded, envs.description)
    if others and exact:
        raise UserError(f"the run was trained on a different environment: {'; '.join(others[:3])}")
    texts = [*others, *(difference.text for difference in found)]
    if texts:
        other = f"{here} differs from the {recorded.name} that the agent was trained on"
        warnings.warn(f"{other}: {'; '.join(texts[:3])}", EnvironmentDiffers, stacklevel=3)


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

# Kind -> what must be equal in it, and how it is said where it is not: what it is here, and what is known.
EQUAL = {
    spaces.Box: {"shape": "has shape {}, not {}"},
    spaces.Discrete: {"n": "has {} values, not {}", "start": "starts at {}, not at {}"},
    spaces.MultiDiscrete: {"nvec": "has the values {}, not {}", "start": "has the start {}, not {}"},
    spaces.MultiBinary: {"shape": "has shape {}, not {}"},
    spaces.Text: {
        "max_length": "has at most {} characters, not {}",
        "characters": "has the characters {!r}, not {!r}",
    },
}


def _between(known: Any, here: Any, name: str) -> Iterator[Difference]:
    """How a space differs from the one that is known; `name` is what to call it."""
    before, now = children(known), children(here)
    if type(known) is not type(here):
        yield Difference(f"{name} is a {type(here).__name__}, not a {type(known).__name__}", True)
    elif before is not None and now is not None:
        yield from _between_parts(before, now, name)
    elif type(known) in EQUAL:
        found = list(_unequal(known, here, name))
        yield from found
        if isinstance(known, spaces.Box) and not found:
            yield from _between_boxes(known, here, name)
    elif known != here:
        yield Difference(f"{name} is {here}, not {known}", True)


def _between_parts(before: dict[Any, Any], now: dict[Any, Any], name: str) -> Iterator[Difference]:
    if list(before) == list(now):
        for key in before:
            yield from _between(before[key], now[key], f"{name} {key!r}")
    elif len(before) != len(now) and (0 in before or 0 in now):
        yield Difference(f"{name} has {len(now)} parts, not {len(before)}", True)
    else:
        how = "order" if set(before) == set(now) else "parts"
        here, known = (", ".join(map(str, names)) for names in (now, before))
        yield Difference(f"{name} has the {how} {here}, not {known}", True)


def _unequal(known: Any, here: Any, name: str) -> Iterator[Difference]:
    for attribute, words in EQUAL[type(known)].items():
        before, now = getattr(known, attribute), getattr(here, attribute)
        if not np.array_equal(before, now):
            texts = (one.tolist() if isinstance(one, np.ndarray) else one for one in (now, before))
            yield Difference(f"{name} {words.format(*texts)}", True)


def _between_boxes(known: spaces.Box, here: spaces.Box, name: str) -> Iterator[Difference]:
    """Of one shape: what the numbers mean is the same."""
    if known.dtype != here.dtype:
        yield Difference(f"{name} is {here.dtype}, not {known.dtype}", False)
    for side in ("low", "high"):
        before, now = (np.ravel(getattr(space, side)) for space in (known, here))
        if not np.array_equal(before, now):
            at = int(np.flatnonzero(before != now)[0])
            where = f"[{at}]" if before.size > 1 else ""
            yield Difference(f"the {side}{where} of {name} is {now[at]:g}, not {before[at]:g}", False)
