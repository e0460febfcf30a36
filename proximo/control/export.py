"""A policy as one ONNX graph, for programs without JAX: raw observations in, the environment's actions out.

    import onnxruntime
    session = onnxruntime.InferenceSession("policy.onnx")
    (action,) = session.run(None, {"observation": observations})  # float32 [batch, features]

Of a Dict or a Tuple every part is an input: {"camera": images, "speed": speeds}. So is `action_mask`, where
an environment tells which actions are legal.

jax2onnx converts what JAX computes, whatever the networks are. Written here, node by node, are the two ends:
their 64-bit numbers do not exist in a float32 JAX.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
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
from proximo.core.types import LEGAL, VECTOR, Picture, Tokens, Words
from proximo.envs import observation_codec
from proximo.envs.parts import SOLE_NAMES, brightest, kind_of
from proximo.envs.scaling import scaling_of
from proximo.envs.vector.masks import MASK
from proximo.envs.vector.trees import leaves, name_of
from proximo.errors import UserError
from proximo.runs.extras import require_package
from proximo.runs.sealed import write_file

OPSET, IR_VERSION = 20, 9  # read by onnxruntime 1.17 (January 2024) and later
INPUT, OUTPUT = "observation", "action"
INSIDE = "policy:"  # what JAX computes, between the two ends: what it takes and returns
STATE, START, NEXT = "state", "start", "next_"
OF_A_WORD = f"zlib.crc32(word.lower().encode()) % {Words.vocabulary - 1} + 1 for each word"
FEATURES, CHOICE = f"{INSIDE}features", f"{INSIDE}choice"

Tensor = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of one, without the batch's axis."""


def parts_of(agent: Agent) -> list[Part]:
    """The inputs of an agent's graph, in the order of the space."""
    found, place = [], 0
    for path, space in leaves(agent.seen):
        # beside the vector of numbers, which then has none of it
        kind = kind_of(space) if agent.policy.in_parts else None
        size = 0 if kind is not None else observation_codec(space).shape[0]
        offset = None if agent.observation.offset is None else agent.observation.offset[place : place + size]
        name = name_of(path) if path else INPUT
        moved = offset if offset is not None and offset.any() else None
        found.append(Part(name, space, moved, kind.length if isinstance(kind, Words) else 0))
        place += size
    return found


class Signature(NamedTuple):
    """What a graph takes and gives beside the parts of an observation, under names that are all different.

    mask       the input that says which actions are legal, bool [batch, flags]; "" where all are
    flags      how many values, or combinations, an action has
    memory     inputs, an array for each leaf of the policy's carry; `next_` and the same as they come out
    start      the input that says where an episode begins, bool [batch]; "" without memory
    leaves     shape and dtype of the carry of one environment, [1, ...]
    structure  of the carry
    outputs    name and space of each part of an action
    """

    mask: str
    flags: int
    memory: list[str]
    start: str
    leaves: list[Any]
    structure: Any
    outputs: list[tuple[str, Space]]

    @property
    def carried(self) -> list[Tensor]:
        """The arrays of the memory, as they go in."""
        pairs = zip(self.memory, self.leaves, strict=True)
        return [(name, str(leaf.dtype), leaf.shape[1:]) for name, leaf in pairs]

    @property
    def inputs(self) -> list[Tensor]:
        """All of them, behind the parts of an observation."""
        mask: list[Tensor] = [(self.mask, "bool", (self.flags,))] if self.mask else []
        start: list[Tensor] = [(self.start, "bool", ())] if self.start else []
        return [*mask, *self.carried, *start]


def signature_of(agent: Agent, parts: Sequence[Part]) -> Signature:
    """The signature of an agent's graph."""
    taken = {part.name for part in parts}
    if len(taken) < len(parts):
        raise UserError("two parts of the observation space have one name in a graph: rename one")

    def free(name: str) -> str:
        while name in taken:
            name = f"policy_{name}"
        taken.add(name)
        return name

    mask = free(MASK) if agent.masked else ""
    carry = jax.eval_shape(lambda: agent.acting.begin(1))
    found = jax.tree_util.tree_leaves_with_path(carry)
    memory = [free(STATE + "".join(f"_{key_name(key)}" for key in path)) for path, _ in found]
    taken.update(f"{NEXT}{name}" for name in memory)
    start = free(START) if memory else ""
    outputs = [(free(name_of(path) or OUTPUT), space) for path, space in leaves(agent.spaces[1])]
    flags = agent.masks.count(agent.mask_code) if mask else 0
    return Signature(
        mask, flags, memory, start, [leaf for _, leaf in found], jax.tree.structure(carry), outputs
    )


def key_name(key: Any) -> str:
    """A key of a tree as a part of a name."""
    return re.sub(r"\W", "", str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))))


class Graph(NamedTuple):
    """What was written: the file, its inputs, and its outputs: one for each part of an action.

    state  what a policy with a memory takes and gives back beside the outputs; () without
    texts  name -> characters of each part that is a text, in the order of their numbers, from 1; "" for a
           text that is read word by word
    """

    path: Path
    inputs: list[Tensor]
    outputs: list[Tensor]
    state: tuple[Tensor, ...] = ()
    texts: Mapping[str, str] = {}

    def usage(self) -> str:
        """Lines of Python that act with it."""
        given = ", ".join(f"{name!r}: {_variable(name)}" for name, _, _ in self.inputs)
        found = [_variable(name) for name, _, _ in (*self.outputs, *self.state)]
        return "\n".join(
            [
                *(
                    f"# {name}: 0 behind the end, and "
                    + (f"from 1 on the characters {characters!r}" if characters else OF_A_WORD)
                    for name, characters in self.texts.items()
                ),
                "import onnxruntime",
                f'session = onnxruntime.InferenceSession("{self.path}")',
                f"{', '.join(found) if len(found) > 1 else f'({found[0]},)'} = "
                f"session.run(None, {{{given}}})",
            ]
        )


def _variable(name: str) -> str:
    """A name of Python's for a batch of an input or an output."""
    plain = re.sub(r"\W", "_", name)
    return f"part_{plain}" if plain[:1].isdigit() else plain


def export_onnx(agent: Agent, path: str | Path) -> Graph:
    """Export the policy, with its observation statistics, to ONNX; returns its inputs and its outputs.

    A single observation is the graph's input `observation`. Of a Dict or a Tuple each part is an input, named
    by its keys: "camera", "left/camera", or "0", "1" for a Tuple. An input is float32 [batch, features]: what
    the environment gives, each flattened; float64 where some numbers lie so far from 0 that float32 would not
    tell them apart. An image is as its space has it: mostly uint8 [batch, height, width, channels]. A text
    is int32 [batch, length], its characters counted from 1 in the order of code points, 0 behind its end.

    Where the environment tells which actions are legal, there is an input `action_mask`, bool [batch, flags]:
    a flag for each value of each choice, one after another, two (off, on) for each switch; or a flag for each
    combination of a MultiDiscrete, the last choice counted first, as its mask of the shape `nvec` flattened.

    The output `action` is what `agent.act` returns for the batch: the most likely actions, as the environment
    takes them (int64 for Discrete, MultiDiscrete and MultiBinary, else the Box's dtype). Actions that are a
    Dict or a Tuple have an output for each part, named by its keys. Where a name is taken already, `policy_`
    is put before it.

    A policy with a memory has two more inputs, `state` and `start`, and one more output, `next_state`, which
    is the next call's `state`. `start`, bool [batch], says where an observation is the first of an episode:
    there the state is forgotten before it is read, so it may be anything. A memory of several arrays has an
    input and an output for each, such as `state_age`.

    Raises UserError for a policy or a space that cannot be written, and where a package is missing.
    """
    model = build(agent)
    write_file(Path(path), model.SerializeToString())
    parts = parts_of(agent)
    signature = signature_of(agent, parts)
    inputs = [(part.name, str(part.dtype), part.shape) for part in parts]
    outputs = [(name, _dtype_of(space), space.shape or ()) for name, space in signature.outputs]
    texts = {
        part.name: "" if part.words else "".join(sorted(part.space.character_set))
        for part in parts
        if isinstance(part.space, spaces.Text)
    }
    return Graph(Path(path), [*inputs, *signature.inputs], outputs, tuple(signature.carried), texts)


def _dtype_of(space: Space) -> str:
    return str(space.dtype) if isinstance(space, spaces.Box) else "int64"


def build(agent: Agent) -> Any:
    """The ONNX model, checked. Raises UserError for what cannot be exported."""
    onnx = require_package("onnx", "export")
    ends, parts = Ends(onnx), parts_of(agent)
    signature = signature_of(agent, parts)
    for index, part in enumerate(parts):
        ends.observation(part, f"{FEATURES}_{index}")
    for name, _, _ in signature.inputs:
        ends.cast(name, np.float32, name=f"{INSIDE}{name}")
    middle = converted(agent, parts, signature)
    ends.nodes += middle.node
    for index, (output, space) in enumerate(signature.outputs):
        value = choice = f"{CHOICE}_{index}"
        if isinstance(space, spaces.Box):
            value = ends.inside(choice, agent.policy)
        scaling = scaling_of(space) if agent.scale_actions or value != choice else None
        value = value if scaling is None else ends.scaled(value, scaling)
        value, _ = acted(space, ends, value)
        ends.apply("Identity", value, name=output)
    for name, dtype, _ in signature.carried:
        ends.cast(f"{INSIDE}{NEXT}{name}", np.dtype(dtype), name=f"{NEXT}{name}")
    helper = onnx.helper

    def tensor(name: str, dtype: Any, shape: Sequence[int]) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, ["batch", *shape])

    graph = helper.make_graph(
        ends.nodes,
        "policy",
        [
            *(tensor(part.name, part.dtype, part.shape) for part in parts),
            *(tensor(*one) for one in signature.inputs),
        ],
        [
            *(tensor(name, _dtype_of(space), space.shape or ()) for name, space in signature.outputs),
            *(tensor(f"{NEXT}{name}", dtype, shape) for name, dtype, shape in signature.carried),
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


def converted(agent: Agent, parts: Sequence[Part], signature: Signature) -> Any:
    """The graph of what JAX computes: float32 [batch, features] of each part -> the most likely actions.

    What else it takes follows the parts, and the memory follows the parts of an action, all of it float32.
    """
    jax2onnx = require_package("jax2onnx", "export")
    kinds = [kind_of(part.space) if agent.policy.in_parts else None for part in parts]
    codec, private = agent.observation, agent.observation.private

    def mode(*given: Float[Array, "batch ..."]) -> Any:
        features, more = given[: len(parts)], list(given[len(parts) :])
        beside, numbers = {}, [jnp.zeros((features[0].shape[0], 0), jnp.float32)]
        for part, value, kind in zip(parts, features, kinds, strict=True):
            if kind is None:
                numbers.append(encoded(part.space, value))
                continue
            name = SOLE_NAMES[type(kind)] if part.name == INPUT else part.name  # as `envs.parts` calls it
            if isinstance(kind, Picture):
                most = brightest(part.space)
                pixels = value / most if most > 1.0 else value
                beside[name] = pixels.reshape(-1, *part.shape).astype(kind.dtype)
            elif isinstance(kind, Tokens | Words):
                beside[name] = value.astype(jnp.int32)
            else:
                first = np.reshape(part.space.start, -1).astype(np.float32)  # type: ignore[attr-defined]
                beside[name] = (value - first).astype(jnp.int32)
        rows = features[0].shape[0]
        if private.numbers:  # no action depends on what the critic alone sees
            numbers.append(jnp.zeros((rows, private.numbers), jnp.float32))
        for name in private.parts:
            unseen = codec.parts[name]
            beside[name] = jnp.zeros((rows, *unseen.shape), unseen.dtype)
        vector = numbers[1] if len(numbers) == 2 else jnp.concatenate(numbers, axis=-1)
        if signature.mask:
            beside[LEGAL] = more.pop(0) > 0.5
        seen: Any = {VECTOR: vector, **beside} if beside else vector
        if vector.shape[1]:
            seen = agent.observations(seen)
        memory: tuple[Any, ...] = ()
        if signature.start:
            *arrays, start = more
            arrays = [x.astype(leaf.dtype) for x, leaf in zip(arrays, signature.leaves, strict=True)]
            memory = (start > 0.5, jax.tree.unflatten(signature.structure, arrays))
        output, after = agent.acting(seen, *memory)
        action = output.distribution.mode()
        chosen = list(action.values()) if isinstance(action, dict) else [action]
        found = (*chosen, *(x.astype(jnp.float32) for x in jax.tree.leaves(after)))
        return found if len(found) > 1 else found[0]

    names = [f"{FEATURES}_{index}".removeprefix(INSIDE) for index in range(len(parts))]
    shapes: list[tuple[Any, ...]] = [("batch", part.features) for part in parts]
    choices = [f"{CHOICE}_{index}".removeprefix(INSIDE) for index in range(len(signature.outputs))]
    try:
        with unlogged():
            model = jax2onnx.to_onnx(
                mode,
                [*shapes, *(("batch", *shape) for _, _, shape in signature.inputs)],
                opset=OPSET,
                input_names=[*names, *(name for name, _, _ in signature.inputs)],
                output_names=[*choices, *(f"{NEXT}{name}" for name in signature.memory)],
            )
    except UserError:
        raise
    except Exception as error:  # whatever it meets in networks of the user's own
        kind = "" if isinstance(error, NotImplementedError) else f"{type(error).__name__}: "
        what = str(error).partition("\n")[0]
        raise UserError(f"this policy cannot be exported to ONNX: jax2onnx: {kind}{what}") from error
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
