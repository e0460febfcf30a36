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
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space, spaces
from jaxtyping import Array, Float

from proximo.control.agent import Agent
from proximo.control.export_ends import Ends, Part, acted, encoded
from proximo.core.types import VECTOR, Picture
from proximo.envs import observation_codec
from proximo.envs.parts import WORDS, kind_of
from proximo.envs.scaling import scaling_of
from proximo.envs.vector.trees import children, name_of
from proximo.errors import UserError
from proximo.runs.extras import require_package
from proximo.runs.sealed import write_file

OPSET, IR_VERSION = 20, 9  # read by onnxruntime 1.17 (January 2024) and later
INPUT, OUTPUT = "observation", "action"
INSIDE = "policy:"  # what JAX computes, between the two ends: what it takes and returns
STATE, START, NEXT = "state", "start", "next_"
FEATURES, CHOICE = f"{INSIDE}features", f"{INSIDE}choice"


def parts_of(agent: Agent) -> list[Part]:
    """The inputs of an agent's graph, in the order of the space."""
    leaves = list(_leaves(agent.seen))
    found, place = [], 0
    for path, space in leaves:
        beside = (
            agent.policy.in_parts and kind_of(space) is not None
        )  # then the vector has none of its numbers
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


class Memory(NamedTuple):
    """What a policy remembers, as inputs and outputs of the graph: an array for each leaf of its carry.

    names      of the arrays as they go in; `next_` and the same as they come out
    start      the input that says where an episode begins, bool [batch]; "" without memory
    leaves     shape and dtype of the carry of one environment, [1, ...]
    structure  of the carry
    """

    names: list[str]
    start: str
    leaves: list[Any]
    structure: Any

    @property
    def told(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, dtype and shape of each array."""
        pairs = zip(self.names, self.leaves, strict=True)
        return [(name, str(leaf.dtype), leaf.shape[1:]) for name, leaf in pairs]


def memory_of(agent: Agent, parts: Sequence[Part]) -> Memory:
    """What an agent's policy remembers, with names that no part of an observation has."""
    carry = jax.eval_shape(lambda: agent.policy.begin(1))
    found = jax.tree_util.tree_leaves_with_path(carry)
    taken = {part.name for part in parts}

    def free(name: str) -> str:
        return f"policy_{name}" if name in taken else name

    keys = ["".join(f"_{key_name(key)}" for key in path) for path, _ in found]
    names = [free(f"{STATE}{key}") for key in keys]
    leaves = [leaf for _, leaf in found]
    return Memory(names, free(START) if leaves else "", leaves, jax.tree.structure(carry))


def key_name(key: Any) -> str:
    """A key of a tree as a part of a name."""
    return re.sub(r"\W", "", str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))))


class Graph(NamedTuple):
    """What was written: the file, its inputs and its outputs as (name, dtype, shape of one).

    state  what a policy with a memory takes and gives back beside the output; () without
    """

    path: Path
    inputs: list[tuple[str, str, tuple[int, ...]]]
    output: tuple[str, str, tuple[int, ...]]
    state: tuple[tuple[str, str, tuple[int, ...]], ...] = ()

    def usage(self) -> str:
        """Three lines of Python that act with it."""
        given = ", ".join(f"{name!r}: {_variable(name)}" for name, _, _ in self.inputs)
        found = ", ".join([self.output[0], *(_variable(name) for name, _, _ in self.state)])
        return (
            "import onnxruntime\n"
            f'session = onnxruntime.InferenceSession("{self.path}")\n'
            f"{found if self.state else f'({found},)'} = session.run(None, {{{given}}})"
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

    A policy with a memory has two more inputs, `state` and `start`, and one more output, `next_state`, which
    is the next call's `state`. `start`, bool [batch], says where an observation is the first of an episode:
    there the state is forgotten before it is read, so it may be anything. A memory of several arrays has an
    input and an output for each, such as `state_age`.

    Raises UserError for a policy or a space that cannot be written, and where a package is missing.
    """
    model = build(agent)
    write_file(Path(path), model.SerializeToString())
    output, space, parts = model.graph.output[0], agent.spaces[1], parts_of(agent)
    whole = not isinstance(space, spaces.Box)
    memory = memory_of(agent, parts)
    inputs = [(part.name, str(part.dtype), part.shape) for part in parts]
    inputs += [*memory.told, *([(memory.start, "bool", ())] if memory.start else [])]
    told = (output.name, "int64" if whole else str(space.dtype), space.shape or ())
    return Graph(Path(path), inputs, told, tuple(memory.told))


def build(agent: Agent) -> Any:
    """The ONNX model, checked. Raises UserError for what cannot be exported."""
    onnx = require_package("onnx", "export")
    ends, parts = Ends(onnx), parts_of(agent)
    for index, part in enumerate(parts):
        ends.observation(part, f"{FEATURES}_{index}")
    memory = memory_of(agent, parts)
    for name in [*memory.names, *filter(None, [memory.start])]:
        ends.cast(name, np.float32, name=f"{INSIDE}{name}")
    middle = converted(agent, parts, memory)
    ends.nodes += middle.node
    value = ends.inside(CHOICE, agent.policy)
    scaling = scaling_of(agent.spaces[1]) if agent.scale_actions or value != CHOICE else None
    value = value if scaling is None else ends.scaled(value, scaling)
    value, dtype_out = acted(agent.spaces[1], ends, value)
    output = f"policy_{OUTPUT}" if OUTPUT in {part.name for part in parts} else OUTPUT
    ends.apply("Identity", value, name=output)
    helper = onnx.helper
    make, type_of = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    for name, dtype, _ in memory.told:
        ends.cast(f"{INSIDE}{NEXT}{name}", np.dtype(dtype), name=f"{NEXT}{name}")
    carried = [(name, type_of(np.dtype(dtype)), ["batch", *shape]) for name, dtype, shape in memory.told]
    started = [make(memory.start, type_of(np.dtype(bool)), ["batch"])] if memory.start else []
    graph = helper.make_graph(
        ends.nodes,
        "policy",
        [
            *(make(part.name, type_of(part.dtype), ["batch", *part.shape]) for part in parts),
            *(make(*one) for one in carried),
            *started,
        ],
        [
            make(output, type_of(np.dtype(dtype_out)), ["batch", *(agent.spaces[1].shape or ())]),
            *(make(f"{NEXT}{name}", *form) for name, *form in carried),
        ],
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


def converted(agent: Agent, parts: Sequence[Part], memory: Memory) -> Any:
    """The graph of what JAX computes: float32 [batch, features] of each part -> the most likely actions.

    With a memory its arrays and where it starts follow the parts, and its arrays follow the actions, all of
    them float32.
    """
    jax2onnx = require_package("jax2onnx", "export")
    kinds = [kind_of(part.space) if agent.policy.in_parts else None for part in parts]

    def mode(*given: Float[Array, "batch ..."]) -> Any:
        features, carried = given[: len(parts)], given[len(parts) :]
        beside, numbers = {}, [jnp.zeros((features[0].shape[0], 0), jnp.float32)]
        for part, value, kind in zip(parts, features, kinds, strict=True):
            if kind is None:
                numbers.append(encoded(part.space, value))
                continue
            name = WORDS[type(kind)] if part.name == INPUT else part.name  # as `envs.parts` calls it
            if isinstance(kind, Picture):
                beside[name] = value.reshape(-1, *part.shape).astype(part.space.dtype)
            else:
                first = np.reshape(part.space.start, -1).astype(np.float32)  # type: ignore[attr-defined]
                beside[name] = (value - first).astype(jnp.int32)
        vector = numbers[1] if len(numbers) == 2 else jnp.concatenate(numbers, axis=-1)
        seen: Any = {VECTOR: vector, **beside} if beside else vector
        if vector.shape[1]:
            seen = agent.observations(seen)
        if not memory.start:
            return agent.policy(seen)[0].distribution.mode()
        *arrays, start = carried
        arrays = [x.astype(leaf.dtype) for x, leaf in zip(arrays, memory.leaves, strict=True)]
        output, after = agent.policy(seen, start > 0.5, jax.tree.unflatten(memory.structure, arrays))
        return output.distribution.mode(), *(x.astype(jnp.float32) for x in jax.tree.leaves(after))

    names = [f"{FEATURES}_{index}".removeprefix(INSIDE) for index in range(len(parts))]
    shapes: list[tuple[Any, ...]] = [("batch", part.features) for part in parts]
    shapes += [("batch", *leaf.shape[1:]) for leaf in memory.leaves]
    try:
        with unlogged():
            model = jax2onnx.to_onnx(
                mode,
                [*shapes, *([("batch",)] if memory.start else [])],
                opset=OPSET,
                input_names=[*names, *memory.names, *filter(None, [memory.start])],
                output_names=[CHOICE.removeprefix(INSIDE), *(f"{NEXT}{name}" for name in memory.names)],
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
