"""`proximo export RUN`: a trained policy as an ONNX file."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from proximo.arguments import parse_words
from proximo.errors import UserError
from proximo.own import OwnCode
from proximo.runs.extras import require_package
from proximo.runs.sealed import check_target


@dataclass(frozen=True)
class Export:
    """Export a trained policy, with its observation normalisation, to ONNX for programs without JAX."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a model folder."""
    onnx: bool = True
    """Write one ONNX graph, the default: `observation` float32 [batch, features] in, `action` out. Each part
    of a Dict or a Tuple is an input, named by its key; an image is as its space has it, such as uint8 [batch,
    height, width, channels]. A policy that remembers takes `state` and `start` too, and gives `next_state`;
    one whose environment tells which actions are legal takes `action_mask`. Each part of an action is an
    output, named by its key."""
    out: Path | None = None
    """The file to write. By default RUN/policy.onnx; for a model folder, a file beside it."""
    network: OwnCode | None = None
    """The class of your own network, if the run has one: `module:Class` or `file.py:Class`."""
    best: bool = False
    """Export the best model of a run that was trained with --eval-every, instead of the last one."""
    json: bool = False
    """Print the result as one JSON object on standard output."""
    debug: bool = False
    """Show the traceback of an error."""


read = partial(parse_words, Export, "export")


def run(arguments: Export) -> int:
    """Export; returns the exit status."""
    from proximo.control.export import export_onnx
    from proximo.control.run import load

    if not arguments.onnx:
        raise UserError("ONNX is the only format: leave out --no-onnx")
    if arguments.out is not None:
        check_target(arguments.out)
    require_package("jax2onnx", "export")  # before JAX and the run are loaded
    agent, out = load(arguments.run, arguments.best, network=arguments.network), arguments.out
    if out is None:
        out = default_file(arguments.run)
    graph = export_onnx(agent, out)
    after = [(f"next_{name}", dtype, shape) for name, dtype, shape in graph.state]
    if arguments.json:
        outputs = _told(graph.outputs)
        told = {"output": outputs[0]} if len(outputs) == 1 else {"outputs": outputs}
        more = {"state": _told(after)} if after else {}
        print(json.dumps({"file": str(out), "inputs": _told(graph.inputs), **told, **more}))
        return 0
    print(out)
    for how, tensors in (("input", graph.inputs), ("output", [*graph.outputs, *after])):
        for name, dtype, shape in tensors:
            print(f"{how}: {name} {dtype} [{', '.join(map(str, ('batch', *shape)))}]")
    print(graph.usage())
    return 0


def _told(tensors: list[tuple[str, str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    """Inputs or outputs as plain data."""
    return [{"name": name, "dtype": dtype, "shape": ["batch", *shape]} for name, dtype, shape in tensors]


def default_file(folder: Path) -> Path:
    """`policy.onnx` in a run folder; beside a model folder, whose checksums allow no other file."""
    if not (folder / "model.json").is_file():
        return folder / "policy.onnx"
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}.onnx")
