"""`proximo lm sft | reward | ppo | dpo | grpo`: train a language model."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from proximo.arguments import Watched, parse
from proximo.core.ranges import at_least
from proximo.errors import UserError, say
from proximo.language.face import carry_out
from proximo.language.progress import facts
from proximo.language.running import SAMPLING, TrainingState, begin, method, resume_training
from proximo.language.train.job import Iteration
from proximo.options import SECONDS
from proximo.paths import short, with_absolute_paths
from proximo.runs.process import Deadline, graceful_stop, prepare_process
from proximo.runs.symptoms import symptoms_of
from proximo.words import groups, understood


@dataclass(frozen=True, kw_only=True)
class Begin(Watched):
    """A new run; each command's class adds its options."""


@dataclass(frozen=True, kw_only=True)
class BeginSampling(Begin):
    """A new run that samples responses."""

    show_samples: bool = False
    """Print sample responses with their scores instead of a progress bar; --samples-every sets how often."""


@dataclass(frozen=True, kw_only=True)
class Resume(Watched):
    """Resume an interrupted run from its newest intact checkpoint, bit for bit."""

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    reward: tuple[str, ...] = ()
    """The run's reward functions again, as they were given: run files never import code."""
    show_samples: bool = False
    """Print sample responses with their scores instead of a progress bar (PPO and GRPO)."""
    checkpoint_every: Annotated[float | None, at_least(0, infinite=True), SECONDS] = None
    """Seconds between checkpoints; by default as at the start of the run."""
    max_time: Annotated[float | None, at_least(0, infinite=True), SECONDS] = None
    """Stop, with a checkpoint, before this many seconds."""


@dataclass(frozen=True)
class ParsedCommand:
    """A training command, its arguments, and the words that were typed."""

    command: str
    arguments: Any
    words: tuple[str, ...]


MODEL_FIRST = """

MODEL may be the first word. `--resume RUN` resumes an interrupted run. Most option names of TRL also work."""


def arguments_of(command: str) -> Any:
    """The class of a command's arguments: its options, and those of its output."""
    options, _ = method(command)
    kind = dataclasses.make_dataclass(
        command.upper(),
        [("options", Annotated[options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")])],
        bases=(BeginSampling if command in SAMPLING else Begin,),
        frozen=True,
        kw_only=True,
    )
    kind.__doc__ = f"{options.__doc__}{MODEL_FIRST}"
    return kind


def read(command: str, words: list[str]) -> ParsedCommand:
    """Parse the command line."""
    _, said = groups(words)
    names = {one.name for one in said}
    if "--show-samples" in names and command not in SAMPLING:
        raise UserError(f"--show-samples is for {' and '.join(SAMPLING)}: {command} samples no responses")
    if "--resume" in names:
        kind: Any = Resume
    else:
        kind = arguments_of(command)
    arguments = with_absolute_paths(parse(kind, f"lm {command}", understood(command, words, kind)))
    return ParsedCommand(command, arguments, ("lm", command, *words))


def run(asked: ParsedCommand) -> int:
    """Train; returns the exit status."""
    prepare_process()
    arguments = asked.arguments
    if isinstance(arguments, Resume):
        deadline = Deadline(arguments.max_time)  # reading data and models takes time too
        names = arguments.reward if asked.command in SAMPLING else None
        work = resume_training(
            asked.command,
            arguments.resume,
            names,
            every=arguments.checkpoint_every,
            typed=asked.words,
        )
        return carried_out(asked.command, arguments, work, deadline)
    deadline = Deadline(arguments.options.run.max_time)
    return carried_out(asked.command, arguments, begin(asked.command, arguments.options), deadline)


def carried_out(command: str, arguments: Watched, work: TrainingState, deadline: Deadline) -> int:
    """Train from the current state; returns the exit status.

    0 for a finished run, 3 if the time ran out, 128 plus the signal's number if a signal stopped it. A run
    that was stopped can be resumed.
    """
    if not arguments.quiet:
        for note in work.trainer.notes:
            say(f"note: {note}")
    samples = getattr(arguments, "show_samples", False)
    with graceful_stop() as stop:
        shown = not arguments.quiet and not samples  # a bar and texts would overwrite each other
        found, status = carry_out(command, work, deadline, shown, stop, say_samples if samples else None)
    path, known = short(found.folder), facts(found.metrics)
    if arguments.json:
        content = {name: value for name, value in vars(found).items() if name != "folder"}
        speed = found.tokens / found.seconds
        print(json.dumps({"run": str(path), **content, "tokens_per_second": speed}))
    else:
        done = f"{found.iterations:,} of {found.total:,} iterations, {found.tokens:,} tokens"
        print(f"{done} in {found.seconds:.1f} s" + (f"; {known}" if known else ""))
        print(f"run: {path}\nnext: {next_step(command, path)}")
        for line in () if arguments.quiet else symptoms_of(found.folder):
            say(f"note: {line}")
    if status:
        names = work.options.rewards.reward if command in SAMPLING else ()
        again = " ".join(["", "--reward", *names]) if names else ""
        say(f"stopped; resume with: proximo lm {command} --resume {path}{again}")
    return status


def say_samples(iteration: Iteration) -> None:
    """Print some responses of an iteration to standard error, each with its prompt and score."""
    if not iteration.completions:
        return
    say(f"iteration {iteration.number:,} of {iteration.total:,}  {facts(iteration.metrics)}")
    for row in iteration.completions[:SHOWN]:
        score = "no score" if row["score"] is None else f"{row['score']:.3g}"
        cut = "" if row["finished"] else " ..."
        say(f"  {score:>8}  {one_text(row['prompt'])!r} -> {row['completion'] + cut!r}")


SHOWN = 3  # responses of an iteration


def one_text(prompt: Any) -> str:
    """A prompt as one text; for a conversation, its last message."""
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content", ""))


def next_step(command: str, path: Path) -> str:
    """The command to type next."""
    if command == "reward":
        return f"proximo lm ppo MODEL --data prompts.jsonl --reward-model {path}"
    return f"proximo lm chat {path}"
