"""`proximo export RUN`: a trained policy for other programs."""

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
    """Write a trained policy, with its observation statistics, for programs without JAX."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a model folder."""
    onnx: bool = True
    """Write one ONNX graph, the default: `observation` float32 [batch, features] in, `action` out. Each part
    of a Dict or a Tuple is an input, named by its key; an image is uint8 [batch, height, width, channels].
    A policy that remembers takes `state` and `start` too, and gives `next_state`."""
    out: Path | None = None
    """The file; `RUN/policy.onnx` unless said otherwise (beside a model folder, never in it)."""
    network: OwnCode | None = None
    """The network of your own that was trained: `module:Class` or `file.py:Class` (a file imports none)."""
    best: bool = False
    """The best model of a run that was trained with --eval-every, instead of the last."""
    json: bool = False
    """End with one JSON object on standard output."""
    debug: bool = False
    """Show the traceback of an error."""


read = partial(parse_words, Export, "export")


def run(arguments: Export) -> int:
    """Export; returns the exit status."""
    from proximo.control.export import export_onnx
    from proximo.control.run import load

    if not arguments.onnx:
        raise UserError("ONNX is the one format that is written: leave --no-onnx out")
    if arguments.out is not None:
        check_target(arguments.out)
    require_package("jax2onnx", "export")  # before JAX and the run are loaded
    agent, out = load(arguments.run, arguments.best, network=arguments.network), arguments.out
    if out is None:
        out = default_file(arguments.run)
    graph = export_onnx(agent, out)
    after = [(f"next_{name}", dtype, shape) for name, dtype, shape in graph.state]
    if arguments.json:
        inputs, outputs = _told(graph.inputs), _told([graph.output, *after])
        output, *state = outputs
        more = {"state": state} if state else {}
        print(json.dumps({"file": str(out), "inputs": inputs, "output": output, **more}))
        return 0
    print(out)
    for how, tensors in (("input", graph.inputs), ("output", [graph.output, *after])):
        for name, dtype, shape in tensors:
            print(f"{how}: {name} {dtype} [{', '.join(map(str, ('batch', *shape)))}]")
    print(graph.usage())
    return 0


def _told(tensors: list[tuple[str, str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    """Inputs or outputs as plain data."""
    return [{"name": name, "dtype": dtype, "shape": ["batch", *shape]} for name, dtype, shape in tensors]


def default_file(folder: Path) -> Path:
    """`policy.onnx` in a run folder; beside a model folder, which is sealed: another file breaks its seal."""
    if not (folder / "model.json").is_file():
        return folder / "policy.onnx"
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}.onnx")
