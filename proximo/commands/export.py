"""`proximo export RUN`: a trained policy for other programs."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from proximo.arguments import parse_words
from proximo.errors import UserError
from proximo.own import OwnCode
from proximo.runs.sealed import check_target


@dataclass(frozen=True)
class Export:
    """Write a trained policy, with its observation statistics, for programs without JAX."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a model folder."""
    onnx: bool = False
    """As one ONNX graph: `observation` float32 [batch, features] in, `action` out."""
    out: Path | None = None
    """The file; `RUN/policy.onnx` unless said otherwise (beside a model folder, never in it)."""
    network: OwnCode | None = None
    """The network of your own that was trained: `module:Class` or `file.py:Class` (a file imports none)."""
    debug: bool = False
    """Show the traceback of an error."""


read = partial(parse_words, Export, "export")


def run(arguments: Export) -> int:
    """Export; returns the exit status."""
    from proximo.control.export import export_onnx
    from proximo.control.run import load

    if not arguments.onnx:
        raise UserError("say what to write: --onnx")
    if arguments.out is not None:
        check_target(arguments.out)
    agent, out = load(arguments.run, network=arguments.network), arguments.out
    if out is None:
        out = default_file(arguments.run)
    export_onnx(agent, out)
    print(out)
    return 0


def default_file(folder: Path) -> Path:
    """`policy.onnx` in a run folder; beside a model folder, which is sealed: another file breaks its seal."""
    if not (folder / "model.json").is_file():
        return folder / "policy.onnx"
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}.onnx")
