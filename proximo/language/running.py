"""The run folder of a language model: what `runs` is told of it.

OUT/config.json         the command and its options, with versions
OUT/metrics.jsonl       a line per iteration
OUT/completions.jsonl   samples, with what they were given for
OUT/checkpoints/NUMBER/ all that goes on from there
OUT/model/              a folder of the Hugging Face Hub's kind
"""

import json
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from proximo.errors import UserError
from proximo.language.train.job import Iteration, Trainer, training
from proximo.options import as_json
from proximo.runs import record
from proximo.runs.checkpoints import STATE_ARRAYS, newest_valid, read_state, require_finite, state_files
from proximo.runs.files import CONFIG, METRICS, Entry, RunFiles
from proximo.runs.folder import RunFolder
from proximo.runs.kinds import config_of
from proximo.runs.logs import step_under
from proximo.runs.named import filled, named_arrays

COMPLETIONS = "completions.jsonl"


def language_files(command: str, options: Any, trainer: Trainer, **more: Any) -> RunFiles:
    """The files of a run.

    command, options  of `proximo lm`
    trainer           what is to be done
    more              what else `config.json` says of it, as plain data
    """
    return RunFiles(
        name=f"lm-{command}-{options.run.seed}",
        resume=f"proximo lm {command} --resume",
        described={"command": command, "options": as_json(options), **more},
        entry=partial(entry, trainer),
        logs={METRICS: step_under("step"), COMPLETIONS: step_under("step")},
        heads={},
        keep=2,
    )


def entry(trainer: Trainer, iteration: Iteration, seconds: float) -> Entry:
    """What is written of an iteration of `training`."""
    step = {"step": iteration.number}
    metrics = {"time/time_elapsed": seconds, **iteration.metrics}
    samples = [json.dumps(step | sample) + "\n" for sample in iteration.completions]
    return Entry(
        steps=iteration.number,
        metrics=metrics,
        logs={METRICS: json.dumps(step | metrics) + "\n", COMPLETIONS: "".join(samples)},
        checkpoint=partial(_checkpoint, iteration, seconds),
        save=partial(trainer.save, iteration.state),
        last=iteration.last,
        lasting=True,
    )


def recorded(
    trainer: Trainer,
    folder: RunFolder,
    every: float,
    state: Any = None,
    number: int = 0,
    mesh: Mesh | None = None,
) -> Generator[Iteration, None, None]:
    """The trainer's iterations, each logged, with a checkpoint now and then, and one wherever it ends.

    every          seconds between two checkpoints; 0 for one after each iteration
    state, number  to go on from. The model is saved without an iteration too: a run may have been killed
                   just before it was
    mesh           as of `training`
    """
    begun = None if state is None else Iteration(number, trainer.total, state, {}, 0, ())
    return record.recorded(training(trainer, state, number, mesh), folder, every, begun)


def described(run: Path) -> dict[str, Any]:
    """What `config.json` says of a run: its "command", its "options" as plain data, and more.

    Raises UserError if there is no such run.
    """
    content = config_of(run)
    if not isinstance(content.get("command"), str) or "options" not in content:
        raise UserError(f"{run} is not a run of `proximo lm` (it has no {CONFIG} of one that can be read)")
    return content


def restored(
    run: Path, files: RunFiles, trainer: Trainer, typed: Sequence[str] = ()
) -> tuple[RunFolder, Any, int]:
    """A run to go on with: its folder, the state of its newest whole checkpoint, and iterations done.

    A damaged checkpoint is named in a warning and an older one taken; without any, raises UserError: a run
    never starts over in silence. Logs are cut back to the checkpoint.
    """
    template = jax.eval_shape(trainer.begin)

    def load(path: Path) -> tuple[Any, int]:
        def build(said: Any, arrays: Any, _: Any) -> tuple[Any, int]:
            return filled(template, arrays, path / STATE_ARRAYS), int(said["number"])

        return read_state(path, build)

    path, (state, number) = newest_valid(run, load)
    return RunFolder.reopen(run, path, number, files, typed=typed), state, number


def _checkpoint(iteration: Iteration, seconds: float) -> dict[str, bytes]:
    arrays = named_arrays(iteration.state)
    require_finite(arrays, f"{iteration.number} iterations")
    return state_files(arrays, {"number": iteration.number, "elapsed": seconds})
