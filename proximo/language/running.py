"""A training command from its options to its run folder: a new run, or a resumed one.

OUT/config.json         the command and its options, with versions
OUT/metrics.jsonl       a line per iteration
OUT/completions.jsonl   sample responses, with their prompts and scores
OUT/checkpoints/NUMBER/ everything needed to resume from there
OUT/model/              the model, in the Hugging Face Hub's format
"""

import importlib
import json
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from proximo.errors import UserError
from proximo.language.inputs import refuse_other_inputs, sums_of_inputs, with_folders
from proximo.language.train.job import Iteration, Trainer, training
from proximo.language.train.rewards import RewardFunction, reward_function
from proximo.learn.mesh import in_host_memory, mesh_of
from proximo.options import as_json, from_json
from proximo.runs import record
from proximo.runs.checkpoints import STATE_ARRAYS, newest_valid, read_state, require_finite, state_files
from proximo.runs.files import CONFIG, METRICS, Entry, RunFiles
from proximo.runs.folder import RunFolder
from proximo.runs.kinds import config_of, refuse_policy
from proximo.runs.logs import step_under
from proximo.runs.named import named_arrays, restore_tree
from proximo.runs.sinks import Sinks

COMPLETIONS = "completions.jsonl"
TRAINERS = {  # the module of proximo.language.train, its options, and what makes a trainer of them
    "sft": ("sft", "SFTOptions", "sft_trainer"),
    "reward": ("reward_model", "RewardModelOptions", "reward_model_trainer"),
    "ppo": ("building", "PPOOptions", "sampling_trainer"),
    "dpo": ("dpo", "DPOOptions", "dpo_trainer"),
    "grpo": ("building", "GRPOOptions", "sampling_trainer"),
}
COMMANDS = tuple(TRAINERS)
SAMPLING = ("ppo", "grpo")  # those that take reward functions


class TrainingState(NamedTuple):
    """A trainer and its state."""

    options: Any  # of the command
    trainer: Trainer
    run: RunFolder
    every: float  # seconds between checkpoints
    state: Any = None  # to resume from; None for a new run
    number: int = 0  # iterations done

    def iterations(self) -> Generator[Iteration, None, None]:
        """The remaining iterations. Each is logged; checkpoints are saved, and the model at the end."""
        self.run.sinks = Sinks(*self.options.run.reports.reports(self.run.path, as_json(self.options)))
        mesh = mesh_of(self.options.model.mesh)
        yield from record_iterations(self.trainer, self.run, self.every, self.state, self.number, mesh)


def method(command: str) -> tuple[type, Callable[..., Trainer]]:
    """The options class of a training command, and the function that builds its trainer."""
    module, options, build = TRAINERS[command]
    found = importlib.import_module(f"proximo.language.train.{module}")
    return getattr(found, options), getattr(found, build)


def begin(command: str, options: Any, functions: Sequence[RewardFunction] | None = None) -> TrainingState:
    """Start a run: build its trainer, then create its folder.

    functions  reward functions from Python; by default those that the options name are imported

    The folder is created last, so a mistake in the options leaves no folder behind.
    """
    _, build = method(command)
    options = with_folders(options)
    options.run.reports.check_reports()
    trainer = build(options) if functions is None else build(options, functions)
    more = {"inputs": sums_of_inputs(options), "notes": list(trainer.notes)}
    run = RunFolder.create(language_files(command, options, trainer, **more), options.run.out)
    return TrainingState(options, trainer, run, options.run.checkpoint_every)


def resume_training(
    command: str,
    run: Path,
    names: Sequence[str] | None = None,
    functions: Sequence[RewardFunction] | None = None,
    every: float | None = None,
    typed: Sequence[str] = (),
) -> TrainingState:
    """Resume an interrupted run from its newest intact checkpoint.

    names      reward functions that the user named again, since run files never import code
    functions  reward functions from Python, instead of these names
    every      seconds between checkpoints; by default as at the run's start
    typed      the words after `proximo`, if a command resumes it

    Raises UserError if this is no run of the command, or if data, models or rewards have changed.
    """
    options, trainer = rebuilt(command, run, names, functions)
    with in_host_memory(mesh_of(options.model.mesh)):
        folder, state, number = restore(run, language_files(command, options, trainer), trainer, typed)
    every = options.run.checkpoint_every if every is None else every
    return TrainingState(options, trainer, folder, every, state, number)


def rebuilt(
    command: str,
    run: Path,
    names: Sequence[str] | None = None,
    functions: Sequence[RewardFunction] | None = None,
) -> tuple[Any, Any]:
    """The options and the trainer of a run, as it began; arguments and errors as of `resume_training`."""
    said = read_config(run)
    if said["command"] != command:
        raise UserError(f"{run} is a run of `proximo lm {said['command']}`, not of `proximo lm {command}`")
    kind, build = method(command)
    options: Any = from_json(kind, said["options"], str(run / CONFIG))
    refuse_other_inputs(said.get("inputs"), options)
    if command in SAMPLING:
        return options, build(options, _same_rewards(options.rewards.reward, names, functions))
    return options, build(options)


def _same_rewards(
    recorded: Sequence[str], names: Sequence[str] | None, functions: Sequence[RewardFunction] | None
) -> list[RewardFunction]:
    """The run's reward functions, as the user gave them this time."""
    if functions is not None and len(functions) == len(recorded):
        return list(functions)
    if functions is None and tuple(names or ()) == tuple(recorded):
        return [reward_function(name) for name in recorded]
    given = ", ".join(names or ()) or "none" if functions is None else f"{len(functions)} functions"
    if not recorded:
        raise UserError(f"this run used no reward function, but {given} is given: leave it out")
    raise UserError(
        f"this run used --reward {' '.join(recorded)} (given now: {given}): pass it again, since run files "
        "never import code"
    )


def language_files(command: str, options: Any, trainer: Trainer, **more: Any) -> RunFiles:
    """The files of a run.

    command, options  of `proximo lm`
    trainer           the run's trainer
    more              further entries of `config.json`, plain data
    """
    return RunFiles(
        name=f"lm-{command}-{options.run.seed}",
        resume=f"proximo lm {command} --resume",
        described={
            "command": command,
            "options": as_json(options),
            "iterations": trainer.total,
            **more,
        },
        entry=partial(entry, trainer),
        logs={METRICS: step_under("step"), COMPLETIONS: step_under("step")},
        heads={},
        keep=2,
    )


def entry(trainer: Trainer, iteration: Iteration, seconds: float) -> Entry:
    """What is written for an iteration of `training`."""
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


def record_iterations(
    trainer: Trainer,
    folder: RunFolder,
    every: float,
    state: Any = None,
    number: int = 0,
    mesh: Mesh | None = None,
) -> Generator[Iteration, None, None]:
    """The trainer's iterations. Each is logged; checkpoints are saved in between, and wherever they end.

    every          seconds between checkpoints; 0 for one after every iteration
    state, number  to resume from. The model is saved even if no iteration is left, since the run may have
                   been killed just before saving it
    mesh           as in `training`
    """
    begun = None if state is None else Iteration(number, trainer.total, state, {}, 0, ())
    return record.record(training(trainer, state, number, mesh), folder, every, begun)


def read_config(run: Path) -> dict[str, Any]:
    """The content of a run's `config.json`: its "command", its "options" as plain data, and more.

    Raises UserError if the folder is no run of `proximo lm`.
    """
    refuse_policy(run)
    content = config_of(run)
    if not isinstance(content.get("command"), str) or "options" not in content:
        raise UserError(f"{run} is not a run of `proximo lm` (it has no {CONFIG} of an lm command)")
    return content


def restore(
    run: Path, files: RunFiles, trainer: Trainer, typed: Sequence[str] = ()
) -> tuple[RunFolder, Any, int]:
    """A run to resume: its folder, the state of its newest intact checkpoint, and the iterations done.

    If a checkpoint is damaged, a warning names it and an older one is used. If none is left, raises
    UserError: a run never restarts silently. Logs are truncated to the checkpoint.
    """
    path, (state, number) = newest_valid(run, partial(load_state, jax.eval_shape(trainer.begin)))
    return RunFolder.reopen(run, path, number, files, typed=typed), state, number


def load_state(template: Any, path: Path) -> tuple[Any, int]:
    """The state that a checkpoint holds, and the iterations done. Raises UserError if it is damaged.

    template  a state of the same trainer, or its shapes
    """

    def build(said: Any, arrays: Any, _: Any) -> tuple[Any, int]:
        return restore_tree(template, arrays, path / STATE_ARRAYS), int(said["number"])

    return read_state(path, build)


def _checkpoint(iteration: Iteration, seconds: float) -> dict[str, bytes]:
    arrays = named_arrays(iteration.state)
    require_finite(arrays, f"{iteration.number} iterations")
    return state_files(arrays, {"number": iteration.number, "elapsed": seconds})
