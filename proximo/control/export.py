"""A policy as one ONNX graph, for programs without JAX: raw observations in, the environment's actions out.

    import onnxruntime
    session = onnxruntime.InferenceSession("policy.onnx")
    (action,) = session.run(None, {"observation": observations})  # float32 [batch, features]

jax2onnx converts what JAX computes, whatever the networks are. Written here, node by node, are the two ends:
their 64-bit numbers do not exist in a float32 JAX.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import Space, spaces
from jaxtyping import Array, Float

from proximo.control.agent import Agent
from proximo.envs.scaling import Scaling, scaling_of
from proximo.envs.vector.returned import one_line
from proximo.errors import UserError
from proximo.runs.extras import require_package
from proximo.runs.sealed import write_file

OPSET, IR_VERSION = 20, 9  # read by onnxruntime 1.17 (January 2024) and later
INPUT, OUTPUT = "observation", "action"
FEATURES, CHOICE = "features", "choice"  # what JAX takes and returns, between the two ends


def export_onnx(agent: Agent, path: str | Path) -> None:
    """Write the policy, with its observation statistics, as ONNX.

    The graph's input `observation` is float32 [batch, features]: observations as the environment gives them,
    each flattened; float64 where some lie so far from 0 that float32 would not tell them apart. Its output
    `action` is what `agent.act` returns for the batch: the most likely actions, as the environment takes them
    (int64 for Discrete, MultiDiscrete and MultiBinary, else the Box's dtype).

    Raises UserError for a policy or a space that cannot be written, and where a package is missing.
    """
    write_file(Path(path), build(agent).SerializeToString())


def build(agent: Agent) -> Any:
    """The ONNX model, checked. Raises UserError for what cannot be written."""
    onnx = require_package("onnx", "export")
    features = int(np.prod(agent.spaces[0].shape or (1,)))
    ends = Ends(onnx)
    dtype_in = ends.observation(agent.observation.offset)
    middle = converted(agent, features)
    ends.nodes += middle.node
    scaling = scaling_of(agent.spaces[1]) if agent.scale_actions else None
    value = CHOICE if scaling is None else ends.scaled(CHOICE, scaling)
    value, dtype_out = acted(agent.spaces[1], ends, value)
    ends.apply("Identity", value, name=OUTPUT)
    helper = onnx.helper
    make, type_of = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        ends.nodes,
        "policy",
        [make(INPUT, type_of(np.dtype(dtype_in)), ["batch", features])],
        [make(OUTPUT, type_of(np.dtype(dtype_out)), ["batch", *(agent.spaces[1].shape or ())])],
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


def converted(agent: Agent, features: int) -> Any:
    """The graph of what JAX computes: float32 [batch, features] -> the policy's most likely actions."""
    jax2onnx = require_package("jax2onnx", "export")

    def mode(observation: Float[Array, "batch features"]) -> Array:
        seen = agent.observations(encoded(agent.spaces[0], observation))
        return agent.policy(seen)[0].distribution.mode()

    try:
        with unlogged():
            model = jax2onnx.to_onnx(
                mode, [("batch", features)], opset=OPSET, input_names=[FEATURES], output_names=[CHOICE]
            )
    except NotImplementedError as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"this policy cannot be written as ONNX: jax2onnx: {what}") from error
    return model.graph


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
        f"the observation space {one_line(space)} has no ONNX form: Box, Discrete, MultiDiscrete and "
        "MultiBinary have; wrap the environment with gymnasium.wrappers.FlattenObservation before training"
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
        name = f"end_constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def apply(self, operator: str, *inputs: str | np.ndarray, name: str = "", **attributes: Any) -> str:
        """The result of one of ONNX's operators."""
        name = name or f"end_{len(self.nodes)}"
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

    def observation(self, offset: np.ndarray | None) -> type:
        """What the codec's offset leaves of the input, in float32; returns the dtype that the input needs."""
        if offset is None:
            self.apply("Identity", INPUT, name=FEATURES)
            return np.float32
        self.cast(self.apply("Sub", INPUT, offset.astype(np.float64)), np.float32, name=FEATURES)
        return np.float64

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
