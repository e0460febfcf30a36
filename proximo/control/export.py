"""A policy as one ONNX graph, for programs without JAX: raw observations in, the environment's actions out.

    import onnxruntime
    session = onnxruntime.InferenceSession("policy.onnx")
    (action,) = session.run(None, {"observation": observations})  # float32 [batch, features]

The graph is built by walking the policy's few module types, one function for each.
"""

from functools import singledispatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from proximo.control.agent import Agent
from proximo.core.moments import SMALLEST_VARIANCE, variance
from proximo.core.types import ActionKind, Binary, Categories, Continuous
from proximo.envs.spaces import space_name
from proximo.errors import UserError
from proximo.learn.normalise import BOUND, ObservationNormaliser
from proximo.policies import MLP, ActorCritic, Dense
from proximo.policies.distributions import IMPOSSIBLE
from proximo.runs.extras import needed
from proximo.runs.sealed import replace_file

OPSET, IR_VERSION = 20, 9  # the oldest with Gelu; read by onnxruntime 1.17 (January 2024) and later
INPUT, OUTPUT = "observation", "action"


class Graph:
    """ONNX nodes and constants in the making; a value is known by its name."""

    def __init__(self) -> None:
        self.onnx = needed("onnx", "export")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """A tensor with these numbers."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The result of one of ONNX's operators."""
        name = f"value_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """The same numbers in another dtype."""
        return self.apply("Cast", value, to=self.type_of(dtype))

    def reshape(self, value: str, *shape: int) -> str:
        """A batch [batch, ...] with another shape of its members."""
        return self.apply("Reshape", value, self.constant(np.array([-1, *shape], np.int64)))

    def type_of(self, dtype: Any) -> int:
        """ONNX's number for a dtype."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def export_onnx(agent: Agent, path: str | Path) -> None:
    """Write the policy, with its observation statistics, as ONNX.

    The graph's input `observation` is float32 [batch, features]: observations as the environment gives them,
    each flattened; float64 where some lie so far from 0 that float32 would not tell them apart. Its output
    `action` is what `agent.act` returns for the batch: the most likely actions, as the environment takes them
    (int64 for Discrete, MultiDiscrete and MultiBinary, else the Box's dtype).

    Raises UserError for a policy or a space that cannot be written, and where `onnx` is missing.
    """
    path = Path(path)
    content = build(agent).SerializeToString()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def build(agent: Agent) -> Any:
    """The ONNX model, checked. Raises UserError for what cannot be written."""
    policy = agent.policy
    if type(policy) is not ActorCritic or not all(type(m) is MLP for m in (policy.trunk, policy.actor)):
        raise UserError("only policies of fully connected layers can be written as ONNX")
    graph = Graph()
    features = int(np.prod(agent.spaces[0].shape or (1,)))
    value, dtype_in = about(graph, encoded(agent.spaces[0], graph, INPUT), agent.observation.offset)
    value = normalised(graph, value, agent.observations)
    value = dense(graph, mlp(graph, mlp(graph, value, policy.trunk), policy.actor), policy.actor_output)
    value, dtype = acted(agent.spaces[1], graph, most_likely(graph, value, agent.action.kind))
    graph.nodes.append(graph.onnx.helper.make_node("Identity", [value], [OUTPUT], OUTPUT))
    make, helper = graph.onnx.helper.make_tensor_value_info, graph.onnx.helper
    whole = helper.make_graph(
        graph.nodes,
        "policy",
        [make(INPUT, graph.type_of(dtype_in), ["batch", features])],
        [make(OUTPUT, graph.type_of(dtype), ["batch", *(agent.spaces[1].shape or ())])],
        graph.constants,
    )
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="proximo",
        producer_version=version("proximo"),
        doc_string=f"A policy for {agent.name}.",
    )
    graph.onnx.checker.check_model(model, full_check=True)
    return model


# --- observations --------------------------------------------------------------------------------


@singledispatch
def encoded(space: Space, graph: Graph, value: str) -> str:
    """Flattened observations -> what the codec makes of them."""
    raise UserError(
        f"the observation space {space_name(space)} has no ONNX form: Box, Discrete, MultiDiscrete and "
        "MultiBinary have; wrap the environment with gymnasium.wrappers.FlattenObservation before training"
    )


@encoded.register
def _(space: spaces.Box | spaces.MultiBinary, graph: Graph, value: str) -> str:
    return value


@encoded.register
def _(space: spaces.Discrete, graph: Graph, value: str) -> str:
    return one_hot(graph, value, [int(space.n)], [int(space.start)])


@encoded.register
def _(space: spaces.MultiDiscrete, graph: Graph, value: str) -> str:
    return one_hot(graph, value, space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist())


def one_hot(graph: Graph, value: str, sizes: list[int], start: list[int]) -> str:
    """[batch, K] choices -> their one-hot codes side by side, [batch, sum(sizes)]."""
    component = np.repeat(np.arange(len(sizes)), sizes)
    code = np.concatenate([first + np.arange(n) for n, first in zip(sizes, start, strict=True)])
    spread = graph.apply("Gather", value, graph.constant(component), axis=1)
    return graph.cast(graph.apply("Equal", spread, graph.constant(code.astype(np.float32))), np.float32)


def about(graph: Graph, value: str, offset: np.ndarray | None) -> tuple[str, Any]:
    """What the codec's offset leaves of a Box, in float32; and the dtype that the graph's input needs."""
    if offset is None:
        return value, np.float32
    left = graph.apply("Sub", value, graph.constant(offset.astype(np.float64)))
    return graph.cast(left, np.float32), np.float64


def normalised(graph: Graph, value: str, observations: ObservationNormaliser) -> str:
    """As `ObservationNormaliser` does it; nothing where it is the identity."""
    moments, active = observations.moments, np.asarray(observations.active)
    if moments.count == 0 or not active.any():
        return value
    spread = np.sqrt(np.asarray(variance(moments)) + np.float32(SMALLEST_VARIANCE))
    centred = graph.apply("Sub", value, graph.constant(np.asarray(moments.mean)))
    standard = graph.apply("Div", centred, graph.constant(spread))
    low, high = (graph.constant(np.float32(bound)) for bound in (-BOUND, BOUND))
    clipped = graph.apply("Clip", standard, low, high)
    return clipped if active.all() else graph.apply("Where", graph.constant(active), clipped, value)


# --- networks ------------------------------------------------------------------------------------


def dense(graph: Graph, value: str, layer: Dense) -> str:
    """x W + b."""
    return graph.apply(
        "Gemm", value, graph.constant(np.asarray(layer.weight)), graph.constant(np.asarray(layer.bias))
    )


def mlp(graph: Graph, value: str, network: MLP) -> str:
    """Dense layers, each followed by the activation."""
    for layer in network.layers:
        value = activated(graph, dense(graph, value, layer), network.activation)
    return value


def activated(graph: Graph, value: str, activation: str) -> str:
    """An activation of `policies/mlp.py`."""
    if activation == "silu":
        return graph.apply("Mul", value, graph.apply("Sigmoid", value))
    if activation == "gelu":
        return graph.apply("Gelu", value, approximate="tanh")  # as jax.nn.gelu does by default
    return graph.apply({"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}[activation], value)


# --- actions -------------------------------------------------------------------------------------


def most_likely(graph: Graph, value: str, kind: ActionKind) -> str:
    """The last layer's outputs -> the mode of the distribution they stand for, [batch, size]."""
    if isinstance(kind, Continuous):
        return value  # the mean
    if isinstance(kind, Binary):
        return graph.cast(graph.apply("Greater", value, graph.constant(np.float32(0.0))), np.int64)
    if not isinstance(kind, Categories):
        raise UserError(f"actions of kind {type(kind).__name__} have no ONNX form")
    most = max(kind.sizes)
    logits = graph.reshape(value, len(kind.sizes), most)
    if min(kind.sizes) < most:
        exists = np.arange(most) < np.array(kind.sizes)[:, None]
        no_choice = graph.constant(np.float32(IMPOSSIBLE))
        logits = graph.apply("Where", graph.constant(exists), logits, no_choice)
    return graph.apply("ArgMax", logits, axis=2, keepdims=0)


@singledispatch
def acted(space: Space, graph: Graph, value: str) -> tuple[str, Any]:
    """The policy's actions [batch, size] -> the environment's [batch, *shape], and their dtype."""
    raise UserError(f"the action space {space_name(space)} has no ONNX form: use a simpler one")


@acted.register
def _(space: spaces.Discrete | spaces.MultiDiscrete, graph: Graph, value: str) -> tuple[str, Any]:
    start = np.asarray(space.start, np.int64).reshape(-1)
    counted = graph.apply("Add", value, graph.constant(start)) if start.any() else value
    return graph.reshape(counted, *(space.shape or ())), np.int64


@acted.register
def _(space: spaces.MultiBinary, graph: Graph, value: str) -> tuple[str, Any]:
    return graph.reshape(value, *space.shape), np.int64


@acted.register
def _(space: spaces.Box, graph: Graph, value: str) -> tuple[str, Any]:
    whole = space.dtype.kind in "iu"
    exact = np.float64 if whole or space.dtype == np.float64 else np.float32
    low, high = (bound.reshape(-1).astype(exact) for bound in (space.low, space.high))
    if whole:  # bounds past 2^53 move one step inwards to stay exact, as in the codec
        low, high = (np.where(abs(x) > 2.0**53, np.nextafter(x, 0.0), x) for x in (low, high))
    value = graph.apply("Max", graph.cast(value, exact), graph.constant(low))
    value = graph.apply("Min", value, graph.constant(high))
    if whole:
        value = graph.apply("Round", value)  # halves to even, as np.rint
    return graph.reshape(graph.cast(value, space.dtype), *space.shape), space.dtype
