"""What an environment returned, looked at before anything is learned from it.

NumPy would put almost anything into an array: 280 into 8 bits as 24, one number into a whole row, "False"
into a flag as True. Here what does not fit is refused, in a line that says how.
"""

from typing import Any

import numpy as np

from proximo.errors import Misfit, WorkerError

OLD_API = "as in the old gym interface"
TWO, FIVE = "return (observation, info)", "return (observation, reward, terminated, truncated, info)"
CORRECT = "correct its observation_space or what it returns"


class Leaf:
    """The array that an observation must be, or one part of it: its shape, its dtype, and what to call it."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
        self.shape, self.dtype, self.name = shape, dtype, name


def form_of(arrays: Any, first: int = 0, name: str = "observation") -> Any:
    """What must be returned to fit arrays, or dicts or tuples of them: the same tree of `Leaf`.

    first  axes of the arrays that what is returned does not have, such as that of the environments
    """
    if isinstance(arrays, dict):
        return {key: form_of(part, first, f"{name}[{key!r}]") for key, part in arrays.items()}
    if isinstance(arrays, tuple):
        return tuple(form_of(part, first, f"{name}[{i}]") for i, part in enumerate(arrays))
    return Leaf(arrays.shape[first:], arrays.dtype, name)


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
        raise Misfit(
            f"its {name} is {short(value)}, its space declares a tuple of {len(form)} parts; {CORRECT}"
        )
    return tuple(as_declared(_part(value, i, name), part, f"{name}[{i}]") for i, part in enumerate(form))


def put(arrays: Any, index: int, value: Any) -> None:
    """Write what `as_declared` gave into row `index` of arrays of all environments."""
    if isinstance(arrays, dict):
        for key, part in arrays.items():
            put(part, index, value[key])
    elif isinstance(arrays, tuple):
        for part, one in zip(arrays, value, strict=True):
            put(part, index, one)
    else:
        arrays[index] = value


def number(reward: Any) -> float:
    """A reward that is one real number. Raises Misfit."""
    array = as_array(reward)
    if array is None or array.shape != () or array.dtype.kind not in "iuf":
        raise Misfit(
            f"its step returned {short(reward)} as its reward, which is not one number; return a float"
        )
    return float(array)


def flag(value: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool. Raises Misfit."""
    if type(value) is bool or type(value) is np.bool_:
        return bool(value)
    array = as_array(value)
    if array is None or array.shape != () or array.dtype != bool:
        raise Misfit(f"its step returned {short(value)} as {name}, which is not a bool; return True or False")
    return bool(array)


def from_reset(result: Any) -> Any:
    """The observation in what `reset` returned. Raises Misfit."""
    pair = isinstance(result, tuple | list) and len(result) == 2
    if pair and (result[1] is None or isinstance(result[1], dict)):
        return result[0]
    raise Misfit(f"its reset returned {short(result)}, without an info, {OLD_API}; {TWO}")


def tag_environment(error: BaseException, index: int) -> None:
    """Let an error tell that environment `index` raised it. Raises another one where that says more."""
    better = _better(error)
    (better or error).environment_index = index  # type: ignore[union-attr, attr-defined]
    if better is not None:
        raise better from error


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
    reward = _row(reward, "reward", "iuf", "numbers", num_envs)
    terminated = _row(terminated, "terminated", "b", "bools", num_envs)
    truncated = _row(truncated, "truncated", "b", "bools", num_envs)
    return as_declared(obs, form), reward, terminated, truncated, info


def require_spaces(env: Any, spaces: tuple[Any, Any]) -> None:
    """Raise Misfit unless an environment has these: of observations and of actions."""
    for kind, space in zip(("observation", "action"), spaces, strict=True):
        found = getattr(env, f"{kind}_space")
        if found != space:
            raise Misfit(
                f"its {kind} space is {line(found)}, that of the first copy is {line(space)}; let all copies "
                "have the same"
            )


def line(value: Any, longest: int = 80) -> str:
    """A value as text on one line."""
    text = " ".join(f"{value!r}".split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short(value: Any) -> str:
    """A value and its type on one line."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"the {type(value).__name__} {line(value, 40)}"


def as_array(value: Any) -> np.ndarray | None:
    """What NumPy makes of it; None where it cannot."""
    try:
        return np.asarray(value)
    except Exception:  # ragged lists, and whatever an object of theirs does when it is asked
        return None


def _better(error: BaseException) -> WorkerError | None:
    """Of an end that was asked for, and of the old interface."""
    text = str(error)
    if isinstance(error, SystemExit):
        return WorkerError(f"it asked the program to end (SystemExit: {text})")
    if "reset() got an unexpected keyword argument 'seed'" in text:
        declare = "declare reset(self, *, seed=None, options=None)"
        return Misfit(f"its reset takes no seed, {OLD_API} ({text}); {declare}")
    if not isinstance(error, ValueError) or not _raised_in_gymnasium(error):
        return None
    # A wrapper unpacks what the environment inside of it returned, and so stumbles before we do.
    if text == "not enough values to unpack (expected 5, got 4)":
        return Misfit(f"its step returned four values, {OLD_API}; {FIVE}")
    if text.startswith("too many values to unpack (expected 2"):
        return Misfit(f"its reset returned more than two values, without an info, {OLD_API}; {TWO}")
    return None


def _raised_in_gymnasium(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("gymnasium.")


def _row(value: Any, name: str, kinds: str, what: str, num_envs: int) -> np.ndarray:
    if type(value) is np.ndarray and value.shape == (num_envs,) and value.dtype.kind in kinds:
        return value
    array = as_array(value)
    if array is None or array.shape != (num_envs,) or array.dtype.kind not in kinds:
        raise Misfit(f"its step returned {short(value)} as {name}; return an array of {num_envs} {what}")
    return array


def _converted(value: Any, leaf: Leaf) -> np.ndarray:
    """`value` as the array that is declared; only where that loses nothing but digits of a real number."""
    array, declared = as_array(value), f"{leaf.dtype} {leaf.shape}"
    if array is None or array.dtype.kind not in "biuf":
        raise Misfit(
            f"it returned {short(value)} as its {leaf.name}, its space declares {declared}; {CORRECT}"
        )
    if array.shape != leaf.shape:
        raise Misfit(
            f"it returned an {leaf.name} of shape {array.shape}, its space declares {leaf.shape}; {CORRECT}"
        )
    if array.dtype == leaf.dtype:
        return array
    if leaf.dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return array.astype(leaf.dtype)
        except FloatingPointError:
            largest = array.reshape(-1)[np.argmax(np.abs(array))]
            raise Misfit(
                f"it returned {largest} in its {leaf.name}, too large for {leaf.dtype}, the dtype of its "
                f"space; {CORRECT}"
            ) from None
    if array.dtype.kind == "f":
        raise Misfit(
            f"it returned {_first(array)} in its {leaf.name}, a {array.dtype}, but its space declares whole "
            f"numbers ({leaf.dtype}); {CORRECT}"
        )
    low, high = (0, 1) if leaf.dtype.kind == "b" else (np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max)
    outside = array[(array < low) | (array > high)]
    if outside.size:
        raise Misfit(
            f"it returned {_first(outside)} in its {leaf.name}, which {leaf.dtype}, the dtype of its space, "
            f"cannot hold; {CORRECT}"
        )
    return array.astype(leaf.dtype)


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
        raise Misfit(
            f"its {name} is {short(value)}, without the part {key!r} of its space; {CORRECT}"
        ) from error
