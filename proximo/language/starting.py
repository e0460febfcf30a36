"""A training command from its options to the first iteration: begun anew, or where it was cut short."""

import importlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from proximo.errors import UserError
from proximo.language.inputs import refuse_other_inputs, sums_of_inputs, with_folders
from proximo.language.running import described, language_files, recorded, restored
from proximo.language.train.job import Iteration, Trainer
from proximo.language.train.rewards import RewardFunction, reward_function
from proximo.learn.mesh import in_host_memory, mesh_of
from proximo.options import as_json, from_json
from proximo.runs.files import CONFIG
from proximo.runs.folder import RunFolder
from proximo.runs.sinks import Sinks

TRAINERS = {  # the module of proximo.language.train, its options, and what makes a trainer of them
    "sft": ("sft", "SFTOptions", "sft_trainer"),
    "reward": ("reward_model", "RewardModelOptions", "reward_model_trainer"),
    "ppo": ("building", "PPOOptions", "sampling_trainer"),
    "dpo": ("dpo", "DPOOptions", "dpo_trainer"),
    "grpo": ("building", "GRPOOptions", "sampling_trainer"),
}
COMMANDS = tuple(TRAINERS)
SAMPLING = ("ppo", "grpo")  # those that take reward functions


class Work(NamedTuple):
    """A trainer and where it stands."""

    options: Any  # of the command
    trainer: Trainer  # what is to be done
    run: RunFolder  # its folder
    every: float  # seconds between two checkpoints
    state: Any = None  # to go on from; None for the beginning
    number: int = 0  # iterations that are done

    def iterations(self) -> Generator[Iteration, None, None]:
        """Those that are left, logged and reported, with checkpoints, and the model at the end."""
        self.run.sinks = Sinks(*self.options.run.reports.reports(self.run.path, as_json(self.options)))
        mesh = mesh_of(self.options.model.mesh)
        yield from recorded(self.trainer, self.run, self.every, self.state, self.number, mesh)


def method(command: str) -> tuple[type, Callable[..., Trainer]]:
    """The options of a training command, and what makes a trainer of them; imported when it is asked for."""
    module, options, build = TRAINERS[command]
    found = importlib.import_module(f"proximo.language.train.{module}")
    return getattr(found, options), getattr(found, build)


def begin(command: str, options: Any, functions: Sequence[RewardFunction] | None = None) -> Work:
    """Everything that a run needs, and its folder.

    functions  rewards from Python; those that the options name are imported unless given

    The folder comes last: after a mistake in the options there is nothing to clear away.
    """
    _, build = method(command)
    options = with_folders(options)
    options.run.reports.check_reports()
    trainer = build(options) if functions is None else build(options, functions)
    more = {"inputs": sums_of_inputs(options), "notes": list(trainer.notes)}
    run = RunFolder.create(language_files(command, options, trainer, **more), options.run.out)
    return Work(options, trainer, run, options.run.checkpoint_every)


def go_on(
    command: str,
    run: Path,
    names: Sequence[str] | None = None,
    functions: Sequence[RewardFunction] | None = None,
    every: float | None = None,
    typed: Sequence[str] = (),
) -> Work:
    """A run that was cut short, from its newest checkpoint that is whole.

    names      reward functions that the user named again, `module:function`: the run's file imports none
    functions  rewards from Python, in the place of these
    every      seconds between two checkpoints; as the run was begun unless given
    typed      the words after `proximo`, where it is resumed by a command

    Raises UserError where there is no run of this command, and where data, models or rewards are others.
    """
    said = described(run)
    if said["command"] != command:
        raise UserError(f"{run} is a run of `proximo lm {said['command']}`, not of `proximo lm {command}`")
    kind, build = method(command)
    options: Any = from_json(kind, said["options"], str(run / CONFIG))
    refuse_other_inputs(said.get("inputs"), options)
    if command in SAMPLING:
        trainer = build(options, _same_rewards(options.rewards.reward, names, functions))
    else:
        trainer = build(options)
    with in_host_memory(mesh_of(options.model.mesh)):
        folder, state, number = restored(run, language_files(command, options, trainer), trainer, typed)
    every = options.run.checkpoint_every if every is None else every
    return Work(options, trainer, folder, every, state, number)


def _same_rewards(
    recorded: Sequence[str], names: Sequence[str] | None, functions: Sequence[RewardFunction] | None
) -> list[RewardFunction]:
    """The run's reward functions, from what the user gave this time."""
    if functions is not None and len(functions) == len(recorded):
        return list(functions)
    if functions is None and tuple(names or ()) == tuple(recorded):
        return [reward_function(name) for name in recorded]
    given = ", ".join(names or ()) or "none" if functions is None else f"{len(functions)} functions"
    if not recorded:
        raise UserError(f"the run was rewarded by no function, but {given} is given: leave it out")
    raise UserError(
        f"the run was rewarded by {', '.join(recorded)}, not by {given}: say --reward {' '.join(recorded)} "
        "again, since a file never imports a module"
    )
