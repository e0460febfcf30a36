"""A policy as one ONNX graph, for programs without JAX: raw observations in, the environment's actions out.

    import onnxruntime
    session = onnxruntime.InferenceSession("policy.onnx")
    (action,) = session.run(None, {"observation": observations})  # float32 [batch, features]

Of a Dict or a Tuple every part is an input: {"camera": images, "speed": speeds}.

jax2onnx converts what JAX computes, whatever the networks are. Written here, node by node, are the two ends:
their 64-bit numbers do not exist in a float32 JAX.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import singledispatch
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium import Space, spaces
from jaxtyping import Array, Float

from proximo.control.agent import Agent
from proximo.core.types import VECTOR
from proximo.envs import observation_codec
from proximo.envs.parts import children, is_image, name_of
from proximo.envs.scaling import Scaling, scaling_of
from proximo.envs.vector.returned import one_line
from proximo.errors import UserError
from proximo.runs.extras import require_package
from proximo.runs.sealed import write_file

OPSET, IR_VERSION = 20, 9  # read by onnxruntime 1.17 (January 2024) and later
INPUT, OUTPUT = "observation", "action"
END, INSIDE = "end:", "policy:"  # what JAX computes, between the two ends: what it takes and returns
FEATURES, CHOICE = f"{INSIDE}features", f"{INSIDE}choice"


class Part(NamedTuple):
    """An input of the graph: one space within the observation space.

    name     the keys that lead to it, such as "camera" or "left/camera"; `observation` for a single part
    offset   float32 [features], what its numbers are relative to; None for nothing
    """

    name: str
    space: Space
    offset: np.ndarray | None

    @property
    def features(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.space.shape or (1,)))

    @property
    def dtype(self) -> np.dtype:
        """What the graph takes: an image as its bytes, float64 where float32 would not tell numbers apart."""
        if is_image(self.space):
            return np.dtype(np.uint8)
        return np.dtype(np.float32 if self.offset is None else np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one observation of it: an image keeps its own, all else is flattened."""
        return tuple(self.space.shape or ()) if is_image(self.space) else (self.features,)


def parts_of(agent: Agent) -> list[Part]:
    """The inputs of an agent's graph, in the order of the space."""
    leaves = list(_leaves(agent.spaces[0]))
    found, place = [], 0
    for path, space in leaves:
        beside = agent.policy.in_parts and is_image(space)  # then the vector has none of its numbers
        size = 0 if beside else observation_codec(space).shape[0]
        offset = None if agent.observation.offset is None else agent.observation.offset[place : place + size]
        name = name_of(path) if path else INPUT
        found.append(Part(name, space, offset if offset is not None and offset.any() else None))
        place += size
    return found


def _leaves(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Space]]:
    inside = children(space)
    if inside is None:
        yield path, space
        return
    for key, child in inside.items():
        yield from _leaves(child, (*path, key))


class Graph(NamedTuple):
    """What was written: the file, and its inputs and its output as (name, dtype, shape of one)."""

    path: Path
    inputs: list[tuple[str, str, tuple[int, ...]]]
    output: tuple[str, str, tuple[int, ...]]

    def usage(self) -> str:
        """Three lines of Python that act with it."""
        given = ", ".join(f"{name!r}: {_variable(name)}" for name, _, _ in self.inputs)
        return (
            "import onnxruntime\n"
            f'session = onnxruntime.InferenceSession("{self.path}")\n'
            f"({self.output[0]},) = session.run(None, {{{given}}})"
        )


def _variable(name: str) -> str:
    """A name of Python's for a batch of an input."""
    plain = re.sub(r"\W", "_", name)
    return f"observation_{plain}" if plain[:1].isdigit() else plain


def export_onnx(agent: Agent, path: str | Path) -> Graph:
    """Export the policy, with its observation statistics, to ONNX; returns its inputs and its output.

    A single observation is the graph's input `observation`. Of a Dict or a Tuple each part is an input, named
    by its keys: "camera", "left/camera", or "0", "1" for a Tuple. An input is float32 [batch, features]: what
    the environment gives, each flattened; float64 where some numbers lie so far from 0 that float32 would not
    tell them apart. An image is uint8 [batch, height, width, channels], as its space has it. The output
    `action` is what `agent.act` returns for the batch: the most likely actions, as the environment takes them
    (int64 for Discrete, MultiDiscrete and MultiBinary, else the Box's dtype); it is called `policy_action`
    where a part is called `action`.

    Raises UserError for a policy or a space that cannot be exported, and if a package is missing.
    """
    model = build(agent)
    write_file(Path(path), model.SerializeToString())
    (output,) = model.graph.output
    space = agent.spaces[1]
    whole = not isinstance(space, spaces.Box)
    inputs = [(part.name, str(part.dtype), part.shape) for part in parts_of(agent)]
    return Graph(Path(path), inputs, (output.name, "int64" if whole else str(space.dtype), space.shape or ()))


def build(agent: Agent) -> Any:
    """The ONNX model, checked. Raises UserError for what cannot be exported."""
    onnx = require_package("onnx", "export")
    ends, parts = Ends(onnx), parts_of(agent)
    for index, part in enumerate(parts):
        ends.observation(part, f"{FEATURES}_{index}")
    middle = converted(agent, parts)
    ends.nodes += middle.node
    scaling = scaling_of(agent.spaces[1]) if agent.scale_actions else None
    value = CHOICE if scaling is None else ends.scaled(CHOICE, scaling)
    value, dtype_out = acted(agent.spaces[1], ends, value)
    output = f"policy_{OUTPUT}" if OUTPUT in {part.name for part in parts} else OUTPUT
    ends.apply("Identity", value, name=output)
    helper = onnx.helper
    make, type_of = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        ends.nodes,
        "policy",
        [make(part.name, type_of(part.dtype), ["batch", *part.shape]) for part in parts],
        [make(output, type_of(np.dtype(dtype_out)), ["batch", *(agent.spaces[1].shape or ())])],
        [*middle.initializer, *ends.constants],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="proximo",
        producer_version=version("proximo"),
        doc_string=f"A policy for {agent.name}.",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def converted(agent: Agent, parts: Sequence[Part]) -> Any:
    """The graph of what JAX computes: float32 [batch, features] of each part -> the most likely actions."""
    jax2onnx = require_package("jax2onnx", "export")
    beside = [agent.policy.in_parts and is_image(part.space) for part in parts]

    def mode(*features: Float[Array, "batch features"]) -> Array:
        images, numbers = {}, [jnp.zeros((features[0].shape[0], 0), jnp.float32)]
        for part, value, alone in zip(parts, features, beside, strict=True):
            if alone:
                name = "image" if part.name == INPUT else part.name  # as `envs.parts` calls it
                images[name] = value.reshape(-1, *part.shape).astype(jnp.uint8)
            else:
                numbers.append(encoded(part.space, value))
        vector = numbers[1] if len(numbers) == 2 else jnp.concatenate(numbers, axis=-1)
        seen = agent.observations({VECTOR: vector, **images} if images else vector)
        return agent.policy(seen)[0].distribution.mode()

    names = [f"{FEATURES}_{index}" for index in range(len(parts))]
    try:
        with unlogged():
            model = jax2onnx.to_onnx(
                mode,
                [("batch", part.features) for part in parts],
                opset=OPSET,
                input_names=[name.removeprefix(INSIDE) for name in names],
                output_names=[CHOICE.removeprefix(INSIDE)],
            )
    except NotImplementedError as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"this policy cannot be exported to ONNX: jax2onnx: {what}") from error
    compose = require_package("onnx.compose", "export")
    return compose.add_prefix_graph(model.graph, INSIDE)  # no part of an observation is called so


@contextmanager
def unlogged() -> Iterator[None]:
    """Without jax2onnx's log: it installs a handler for everybody, and warns of shapes that it leaves out."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers = list(root.handlers)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers


# --- observations --------------------------------------------------------------------------------


@singledispatch
def encoded(space: Space, value: Array) -> Array:
    """Flattened observations [batch, features] -> what the space's codec makes of them."""
    raise UserError(
        f"the observation space {one_line(space)} cannot be exported to ONNX; Box, Discrete, "
        f"MultiDiscrete and "
        "MultiBinary can, and Dict and Tuple of these"
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


def one_hot(value: Array, sizes: list[int], start: list[int]) -> Array:
    """[batch, K] choices -> their one-hot codes side by side, [batch, sum(sizes)]."""
    component = np.repeat(np.arange(len(sizes)), sizes)
    code = np.concatenate([first + np.arange(n) for n, first in zip(sizes, start, strict=True)])
    return (value[:, component] == code.astype(np.float32)).astype(jnp.float32)


# --- the two ends --------------------------------------------------------------------------------


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
        if part.offset is not None:
            value = self.cast(self.apply("Sub", value, part.offset.astype(np.float64)), np.float32)
        self.apply("Identity", value, name=name)

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
    raise UserError(f"the action space {one_line(space)} cannot be exported to ONNX: use a simpler one")


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
