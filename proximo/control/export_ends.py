"""The two ends of an ONNX graph: what an observation is before the networks, and an action behind them."""

from functools import singledispatch
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium import Space, spaces
from jaxtyping import Array

from proximo.envs.parts import is_image
from proximo.envs.scaling import Scaling
from proximo.envs.vector.returned import one_line
from proximo.errors import UserError
from proximo.policies.distributions import BoundedBeta, TanhNormal

END = "end:"  # what nodes are called here


class Part(NamedTuple):
    """An input of the graph: one space within the observation space.

    name     the keys that lead to it, such as "camera" or "left/camera"; `observation` for a single part
    offset   float32 [features], what its numbers are relative to; None for nothing
    words    how many a text has, where the policy reads words
    """

    name: str
    space: Space
    offset: np.ndarray | None
    words: int = 0

    @property
    def features(self) -> int:
        """How many numbers it has."""
        if isinstance(self.space, spaces.Text):
            return self.words or self.space.max_length
        return int(np.prod(self.space.shape or (1,)))

    @property
    def dtype(self) -> np.dtype:
        """What the graph takes: an image as its bytes, a text as numbers of its characters, else real
        numbers: float64 where float32 would not tell them apart."""
        if is_image(self.space):
            return np.dtype(self.space.dtype)
        if isinstance(self.space, spaces.Text):
            return np.dtype(np.int32)
        return np.dtype(np.float32 if self.offset is None else np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one observation of it: an image keeps its own, all else is flattened."""
        return tuple(self.space.shape or ()) if is_image(self.space) else (self.features,)


@singledispatch
def encoded(space: Space, value: Array) -> Array:
    """Flattened observations [batch, features] -> what the space's codec makes of them."""
    raise UserError(
        f"the observation space {one_line(space)} has no ONNX form: Box, Discrete, MultiDiscrete, "
        "MultiBinary and Text have, and Dict and Tuple of these"
    )


@encoded.register
def _(space: spaces.Box | spaces.MultiBinary, value: Array) -> Array:
    return value


@encoded.register
def _(space: spaces.Discrete, value: Array) -> Array:
    return one_hot(value, [int(space.n)], [int(space.start)])


@encoded.register
def _(space: spaces.MultiDiscrete, value: Array) -> Array:
    return one_hot(value, space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist())


@encoded.register
def _(space: spaces.Text, value: Array) -> Array:
    count, length = len(space.character_set), space.max_length
    return one_hot(value, [count] * length, [1] * length)


def one_hot(value: Array, sizes: list[int], start: list[int]) -> Array:
    """[batch, K] choices -> their one-hot codes side by side, [batch, sum(sizes)]."""
    component = np.repeat(np.arange(len(sizes)), sizes)
    code = np.concatenate([first + np.arange(n) for n, first in zip(sizes, start, strict=True)])
    return (value[:, component] == code.astype(np.float32)).astype(jnp.float32)


class Ends:
    """The nodes before and after those of jax2onnx; a value is known by its name."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: np.ndarray) -> str:
        """A tensor with these numbers."""
        name = f"{END}constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def apply(self, operator: str, *inputs: str | np.ndarray, name: str = "", **attributes: Any) -> str:
        """The result of one of ONNX's operators."""
        name = name or f"{END}{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(operator, names, [name], name, **attributes))
        return name

    def cast(self, value: str, dtype: Any, name: str = "") -> str:
        """The same numbers in another dtype."""
        to = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.apply("Cast", value, to=int(to), name=name)

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """A batch [batch, ...] with another shape of its members."""
        return self.apply("Reshape", value, np.array([-1, *shape], np.int64))

    def observation(self, part: Part, name: str) -> None:
        """A part's numbers as JAX takes them: flattened, less its offset, in float32."""
        value = part.name
        if is_image(part.space):
            value = self.reshape(self.cast(value, np.float32), (part.features,))
        elif isinstance(part.space, spaces.Text):
            value = self.cast(value, np.float32)
        if part.offset is not None:
            value = self.cast(self.apply("Sub", value, part.offset.astype(np.float64)), np.float32)
        self.apply("Identity", value, name=name)

    def inside(self, action: str, policy: Any) -> str:
        """What was sampled, [batch, size], as numbers from -1 to 1 in float64; as it is without bounds."""
        match getattr(getattr(policy, "options", None), "distribution", None):
            case TanhNormal():
                return self.apply("Tanh", self.cast(action, np.float64))
            case BoundedBeta():
                twice = self.apply("Mul", self.cast(action, np.float64), np.full(1, 2.0))
                return self.apply("Sub", twice, np.ones(1))
        return action

    def scaled(self, action: str, scaling: Scaling) -> str:
        """The policy's actions [batch, size] in the units of the environment, in float64: as `Scaling`."""
        one, half = np.ones(1), np.full(1, 0.5)
        exact = self.cast(action, np.float64)
        inside = self.apply("Min", self.apply("Max", exact, -one), one)
        share = self.apply("Mul", self.apply("Add", inside, one), half)
        below = self.apply("Mul", self.apply("Sub", one, share), scaling.low)
        found = self.apply("Add", below, self.apply("Mul", share, scaling.high))
        found = self.apply("Where", scaling.mapped, found, exact)
        return self.apply("Round", found) if scaling.whole else found


@singledispatch
def acted(space: Space, ends: Ends, value: str) -> tuple[str, Any]:
    """The policy's actions [batch, ...] -> the environment's [batch, *shape], and their dtype."""
    raise UserError(f"the action space {one_line(space)} has no ONNX form: use a simpler one")


@acted.register
def _(space: spaces.Discrete | spaces.MultiDiscrete, ends: Ends, value: str) -> tuple[str, Any]:
    value = ends.reshape(ends.cast(value, np.int64), space.shape or ())
    return ends.apply("Add", value, np.asarray(space.start, np.int64)), np.int64


@acted.register
def _(space: spaces.MultiBinary, ends: Ends, value: str) -> tuple[str, Any]:
    return ends.reshape(ends.cast(value, np.int64), space.shape), np.int64


@acted.register
def _(space: spaces.Box, ends: Ends, value: str) -> tuple[str, Any]:
    whole = space.dtype.kind in "iu"
    exact = np.float64 if whole or space.dtype == np.float64 else np.float32
    low, high = (bound.reshape(-1).astype(exact) for bound in (space.low, space.high))
    if whole:  # bounds past 2^53 move one step inwards to stay exact, as in the codec
        low, high = (np.where(abs(x) > 2.0**53, np.nextafter(x, 0.0), x) for x in (low, high))
    value = ends.apply("Min", ends.apply("Max", ends.cast(value, exact), low), high)
    if whole:
        value = ends.apply("Round", value)  # halves to even, as np.rint
    return ends.reshape(ends.cast(value, space.dtype), space.shape), space.dtype
