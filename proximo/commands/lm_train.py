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
from proximo.paths import short, with_absolute_paths
from proximo.runs.process import Deadline, graceful_stop, prepare_process
from proximo.runs.symptoms import symptoms_of
from proximo.words import groups, understood


@dataclass(frozen=True, kw_only=True)
class Begin(Watched):
    """A new run; the class for a command has that command's options too."""


@dataclass(frozen=True, kw_only=True)
class BeginSampling(Begin):
    """A run that samples responses."""

    show_samples: bool = False
    """Print sample responses with scores every --samples-every iterations, instead of a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Resume(Watched):
    """Resume an interrupted run from its newest intact checkpoint, bit for bit."""

    resume: Path
    """The run folder."""
    reward: tuple[str, ...] = ()
    """The run's reward functions again, `module:function`: run files never import code."""
    show_samples: bool = False
    """Print sample responses with their scores while PPO or GRPO trains."""
    checkpoint_every: Annotated[float | None, at_least(0, infinite=True)] = None
    """Seconds between checkpoints. By default as in the run."""
    max_time: Annotated[float | None, at_least(0, infinite=True)] = None
    """Stop with a checkpoint before this many seconds have passed."""


@dataclass(frozen=True)
class ParsedCommand:
    """A training command and what was typed after it, as arguments and as the words themselves."""

    command: str
    arguments: Any
    words: tuple[str, ...]


MODEL_FIRST = """

The model may be the first word. `--resume RUN` resumes an interrupted run. Most of TRL's option names work
too."""


def arguments_of(command: str) -> Any:
    """The class of a command's arguments: its options, side by side with what is shown."""
    options, _ = method(command)
    kind = dataclasses.make_dataclass(
        command.upper(),
        [("options", Annotated[options, tyro.conf.OmitArgPrefixes])],
        bases=(BeginSampling if command in SAMPLING else Begin,),
        frozen=True,
        kw_only=True,
    )
    kind.__doc__ = f"{options.__doc__}{MODEL_FIRST}"
    return kind


def read(command: str, words: list[str]) -> ParsedCommand:
    """The arguments that were typed."""
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
        deadline = Deadline(arguments.max_time)  # it takes time to read data and models too
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
    """Train from the beginning, or from where a run stopped; returns the exit status.

    0 for a run that finished, 3 for one that ran out of time, 128 plus the signal's number for one that was
    stopped. Each can be resumed.
    """
    if not arguments.quiet:
        for note in work.trainer.notes:
            say(f"note: {note}")
    samples = getattr(arguments, "show_samples", False)
    with graceful_stop() as stop:
        shown = not arguments.quiet and not samples  # a bar and texts would write over each other
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
    """Some responses of an iteration on standard error, each with its prompt and its score."""
    if not iteration.completions:
        return
    say(f"iteration {iteration.number:,} of {iteration.total:,}  {facts(iteration.metrics)}")
    for row in iteration.completions[:SHOWN]:
        score = "not judged" if row["score"] is None else f"{row['score']:.3g}"
        cut = "" if row["finished"] else " ..."
        say(f"  {score:>8}  {one_text(row['prompt'])!r} -> {row['completion'] + cut!r}")


SHOWN = 3  # responses of an iteration


def one_text(prompt: Any) -> str:
    """A prompt as one text; of a conversation its last message."""
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content", ""))


def next_step(command: str, path: Path) -> str:
    """What to do with the run."""
    if command == "reward":
        return f"proximo lm ppo MODEL --data prompts.jsonl --reward-model {path}"
    return f"proximo lm chat {path}"
