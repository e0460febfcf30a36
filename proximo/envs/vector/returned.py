"""What an environment returned, checked before anything is learned from it.

NumPy would put almost anything into an array: 280 into 8 bits as 24, one number into a whole row, "False"
into a flag as True. Here what can mean one thing alone is taken (0 and 1 as a flag, an array of one number as
a reward), and everything else is refused, in a line that says how.
"""

import inspect
import traceback
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

from proximo.envs.vector.printed import as_array, one_line, short
from proximo.envs.vector.trees import Path, tree_of, with_texts
from proximo.errors import Misfit

OLD_API = "as in the old gym interface"
TWO, FIVE = "return (observation, info)", "return (observation, reward, terminated, truncated, info)"
CORRECT = "correct its observation_space or what it returns"


class Leaf(NamedTuple):
    """The array that an observation must be, or one part of it, and what to call it.

    characters  of a text, each with its number from 1, which its array holds; 0 is behind its end. Their
                order is that of their code points: a set of characters has none of its own
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    name: str
    characters: dict[str, int] | None = None


def form_for(space: Any, *axes: int) -> Any:
    """What must be returned to fit a space, with `axes` in front of every array: the same tree of `Leaf`."""

    def leaf(path: Path, part: Any) -> Leaf:
        name = "observation" + "".join(f"[{key!r}]" for key in path)
        if isinstance(part, spaces.Text):
            numbers = {one: number for number, one in enumerate(sorted(part.character_set), 1)}
            return Leaf((*axes, part.max_length), np.dtype(np.int32), name, numbers)
        like: Any = create_empty_array(part, 1)
        return Leaf((*axes, *like.shape[1:]), like.dtype, name)

    return tree_of(space, leaf)


def empty_like(space: Any, *axes: int) -> Any:
    """The arrays that `form_for` asks for, all zeros, which take no memory."""

    def array(path: Path, part: Any) -> np.ndarray:
        form = form_for(part, *axes)
        return np.broadcast_to(np.zeros((), form.dtype), form.shape)

    return tree_of(space, array)


def as_declared(value: Any, form: Any, name: str = "observation") -> Any:
    """An observation as the tree of arrays that `form` declares, with nothing lost. Raises Misfit."""
    if type(form) is Leaf:
        if type(value) is np.ndarray and value.shape == form.shape and value.dtype == form.dtype:
            return value
        return _converted(value, form)
    if isinstance(form, dict):
        return {
            key: as_declared(_part(value, key, name), part, f"{name}[{key!r}]") for key, part in form.items()
        }
    if not hasattr(value, "__len__") or len(value) != len(form):
        declared = f"its space declares a tuple of {len(form)} parts"
        raise Misfit(f"its {name} is {short(value)}, but {declared}; {CORRECT}")
    return tuple(as_declared(_part(value, i, name), part, f"{name}[{i}]") for i, part in enumerate(form))


def number(reward: Any) -> float:
    """A reward that is one real number; True is 1. Raises Misfit."""
    array = _single(reward)
    if array is None:
        what = f"its step returned {short(reward)} as its reward"
        raise Misfit(f"{what}, which is not one number; return a float")
    return float(array)


def flag(value: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool; 0 and 1 are False and True. Raises Misfit."""
    if type(value) is bool or type(value) is np.bool_:
        return bool(value)
    array = _single(value)
    if array is None or (array != 0 and array != 1):
        raise Misfit(f"its step returned {short(value)} as {name}, which is not a bool; return True or False")
    return bool(array)


def _single(value: Any) -> np.ndarray | None:
    """A number, or an array of one, without axes; None for anything else, a list among it."""
    array = None if isinstance(value, list | tuple) else as_array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return array.reshape(())


def loose(reward: Any, terminated: Any, truncated: Any) -> dict[str, str]:
    """What is taken though Gymnasium asks for another type: what it is of -> a line that says so.

    All three are such as `number` and `flag` take.
    """
    found = {}
    if type(reward) is not float and (np.ndim(reward) > 0 or as_array(reward).dtype.kind == "b"):  # type: ignore[union-attr]
        taken = f"taken for {number(reward):g}"
        found["reward"] = f"its step returned {short(reward)} as its reward, {taken}; return a float"
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if type(value) is not bool and type(value) is not np.bool_:
            taken = f"taken for {flag(value, name)}"
            found[name] = f"its step returned {short(value)} as {name}, {taken}; return True or False"
    return found


def from_reset(result: Any) -> Any:
    """The observation in what `reset` returned. Raises Misfit."""
    pair = isinstance(result, tuple | list) and len(result) == 2
    if pair and (result[1] is None or isinstance(result[1], dict)):
        return result[0]
    raise Misfit(f"its reset returned {short(result)}, without an info, {OLD_API}; {TWO}")


def from_step(result: Any) -> Any:
    """The five things in what `step` returned. Raises Misfit."""
    count = len(result) if isinstance(result, tuple | list) else 0
    if count == 5:
        return result
    if count == 4:
        raise Misfit(f"its step returned four values, {OLD_API}; {FIVE}")
    what = f"{count} values" if count else short(result)
    raise Misfit(f"its step returned {what}; {FIVE}")


def batch_from_step(result: Any, form: Any, num_envs: int) -> tuple[Any, Any, Any, Any, Any]:
    """What the step of a vector returned, each part an array of all its environments. Raises Misfit."""
    obs, reward, terminated, truncated, info = from_step(result)
    reward = _row(reward, "reward", "numbers", num_envs)
    if reward.dtype.kind == "b":
        reward = reward.astype(np.float64)
    terminated, truncated = (
        _flags(terminated, "terminated", num_envs),
        _flags(truncated, "truncated", num_envs),
    )
    return as_declared(obs, form), reward, terminated, truncated, info


def require_spaces(env: Any, spaces: tuple[Any, Any]) -> None:
    """Raise Misfit unless an environment has these: of observations and of actions."""
    for kind, space in zip(("observation", "action"), spaces, strict=True):
        found = with_texts(getattr(env, f"{kind}_space"))
        if found != space:
            first = f"that of the first copy is {one_line(space)}"
            raise Misfit(
                f"its {kind} space is {one_line(found)}, {first}; all copies must have the same space"
            )


def clearer_error(error: Exception, env: Any) -> Exception:
    """The Misfit behind an error, where the environment without its wrappers shows one; else the error.

    A wrapper unpacks what the environment inside of it returned, and so stumbles before we look.
    """
    plain = env.unwrapped
    try:
        inspect.signature(plain.reset).bind(seed=0)
    except TypeError:
        declare = "declare reset(self, *, seed=None, options=None)"
        return Misfit(f"its reset takes no seed, {OLD_API} ({error}); {declare}")
    except ValueError:  # compiled code need not have a signature
        return error
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if isinstance(error, ValueError) and frame.f_globals.get("__name__", "").startswith("gymnasium."):
        try:
            from_reset(plain.reset(seed=0))
            from_step(plain.step(plain.action_space.sample()))
        except Misfit as misfit:
            return misfit
        except Exception:
            return error
    return error


def _row(value: Any, name: str, what: str, num_envs: int) -> np.ndarray:
    array = value if type(value) is np.ndarray else as_array(value)
    if array is None or array.shape != (num_envs,) or array.dtype.kind not in "biuf":
        raise Misfit(f"its step returned {short(value)} as {name}; return an array of {num_envs} {what}")
    return array


def _flags(value: Any, name: str, num_envs: int) -> np.ndarray:
    """A row of bools; 0 and 1 are taken for them."""
    array = _row(value, name, "bools", num_envs)
    if array.dtype.kind == "b":
        return array
    if not ((array == 0) | (array == 1)).all():
        raise Misfit(
            f"its step returned {short(value)} as {name}, with other values than 0 and 1; return an array of "
            f"{num_envs} bools"
        )
    return array.astype(bool)


def _converted(value: Any, leaf: Leaf) -> np.ndarray:
    """`value` as the array that is declared; only where that loses nothing but digits of a real number."""
    if leaf.characters is not None:
        return _symbols(value, leaf, leaf.characters)
    array, name, dtype = as_array(value), leaf.name, leaf.dtype
    if array is None or array.dtype.kind not in "biuf":
        raise _misfit(f"{short(value)} as its {name}, but its space declares {dtype} {leaf.shape}")
    if array.shape != leaf.shape:
        raise _misfit(f"an {name} of shape {array.shape}, but its space declares {leaf.shape}")
    if array.dtype == dtype:
        return array
    if dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return array.astype(dtype)
        except FloatingPointError:
            largest = array.reshape(-1)[np.argmax(np.abs(array))]
            raise _misfit(f"{largest} in its {name}, too large for {dtype}, the dtype of its space") from None
    if array.dtype.kind == "f":
        found = f"{_first(array)} in its {name}, a {array.dtype}"
        raise _misfit(f"{found}, but its space declares whole numbers ({dtype})")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    outside = array[(array < low) | (array > high)]
    if outside.size:
        found = f"{_first(outside)} in its {name}"
        raise _misfit(f"{found}, which {dtype}, the dtype of its space, cannot hold")
    return array.astype(dtype)


def _symbols(value: Any, leaf: Leaf, characters: dict[str, int]) -> np.ndarray:
    """A text, or a row of texts, as the numbers of its characters."""
    if len(leaf.shape) > 1:
        if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != leaf.shape[0]:
            raise _misfit(f"{short(value)} as its {leaf.name}, but {leaf.shape[0]} texts are declared")
        one = leaf._replace(shape=leaf.shape[1:])
        rows = [as_declared(text, one) for text in value]
        return np.stack(rows) if rows else np.zeros(leaf.shape, leaf.dtype)
    if not isinstance(value, str):
        raise _misfit(f"{short(value)} as its {leaf.name}, but its space declares a text")
    (longest,) = leaf.shape
    if len(value) > longest:
        raise _misfit(f"a text of {len(value)} characters as its {leaf.name}, at most {longest} are declared")
    found = np.zeros(leaf.shape, leaf.dtype)
    try:
        found[: len(value)] = [characters[one] for one in value]
    except KeyError as error:
        foreign = f"the character {error.args[0]!r} in its {leaf.name}"
        raise _misfit(f"{foreign}, which is not in the charset of its space") from None
    return found


def _misfit(what: str) -> Misfit:
    return Misfit(f"it returned {what}; {CORRECT}")


def _first(array: np.ndarray) -> Any:
    """The entry to show: the first that is not whole, or the first of all."""
    entries = array.reshape(-1)
    if not entries.size:
        return "nothing"
    return entries[np.argmax(~(entries == np.rint(entries)))].item()


def _part(value: Any, key: Any, name: str) -> Any:
    try:
        return value[key]
    except Exception as error:
        found = f"its {name} is {short(value)}"
        raise Misfit(f"{found}, without the part {key!r} of its space; {CORRECT}") from error
