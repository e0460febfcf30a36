"""Language models from Python: a model that answers, and every command as a function.

model = proximo.language.load("runs/lm-ppo-0-...")
model.generate("Once upon a time", max_new_tokens=32)

run = proximo.language.sft(model="Qwen/Qwen2.5-0.5B", data="texts.jsonl", lora_rank=8)
run = proximo.language.ppo(model=run, data="prompts.jsonl", reward=lambda completions, **_: ...)
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proximo.errors import UserError
from proximo.language.evaluation import EvaluationOptions, evaluate_model
from proximo.language.language_model import LanguageModel, load
from proximo.language.progress import shown
from proximo.language.running import SAMPLING, TrainingState, begin, method, read_config, resume_training
from proximo.language.train.job import Iteration
from proximo.language.train.rewards import RewardFunction, reward_function
from proximo.options import options_from
from proximo.runs.process import Deadline, StopRequest, prepare_process, take_turns
from proximo.runs.sealed import replace_file

Rewards = str | RewardFunction | Sequence[str | RewardFunction]
Records = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class LanguageRunResult:
    """A training run that came to its end, or to its `max_time`.

    folder             where it lies; it can stand for its model in any command and function
    command            `sft`, `reward`, `ppo`, `dpo` or `grpo`
    iterations, total  done, and those that it was to have
    tokens             that went through the model
    seconds            they took
    metrics            of the last iteration; empty if there was none left to do
    notes              what should be known of how data and model were read, such as records that were cut
    """

    folder: Path
    command: str
    iterations: int
    total: int
    tokens: int
    seconds: float
    metrics: dict[str, float]
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.folder)

    def load(self) -> LanguageModel:
        """The trained model. Raises UserError for a reward model, which continues no text."""
        return load(self.folder)


def generate(model: Any, prompts: Any, **options: Any) -> list[Any]:
    """Answers to prompts: `load(model).generate(prompts, ...)`."""
    found = model if isinstance(model, LanguageModel) else load(_named(model))
    return found.generate(prompts, **options)


def evaluate(*, model: Any, data: Records, reward: Rewards = (), **options: Any) -> dict[str, Any]:
    """Measure a model on data: perplexity, a reward model's accuracy, or the mean reward of answers.

    model    a folder, a run, or an id of the Hub
    data     a file of JSON lines, or records
    reward   functions, or their names `module:function`
    options  as of `proximo lm eval --help`, by their names
    """
    functions, names = functions_of(reward)
    with tempfile.TemporaryDirectory() as place:
        given = options | {"model": model, "data": materialised_data(data, Path(place)), "reward": names}
        return evaluate_model(options_from(EvaluationOptions, _named(given)), functions)


def sft(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """Supervised fine-tuning: imitate texts, or answers to prompts.

        proximo.language.sft(model="Qwen/Qwen2.5-0.5B", data="texts.jsonl", learning_rate=2e-5, lora_rank=8)

    model     a folder, a run, or an id of the Hub
    data      a file of JSON lines, or records, which are then kept beside the run
    progress  draw a progress bar
    options   as of `proximo lm sft --help`, by their names

    Raises UserError, in one line, for what cannot be; what was learned before a failure is saved.
    """
    return _train("sft", progress, {"model": model, "data": data} | options)


def reward(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """A reward model from preferences. Arguments as of `sft`; options as of `proximo lm reward --help`."""
    return _train("reward", progress, {"model": model, "data": data} | options)


def dpo(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """A policy from preferences, without a reward model. As `sft`; options as of `proximo lm dpo --help`."""
    return _train("dpo", progress, {"model": model, "data": data} | options)


def ppo(
    *, model: Any, data: Records, reward: Rewards = (), progress: bool = False, **options: Any
) -> LanguageRunResult:
    """PPO against rewards.

        proximo.language.ppo(model=run, data="prompts.jsonl", reward=score, episodes=10_000, kl=FixedKL(0.05))

    reward   f(prompts, completions, completion_ids, **columns) -> a number for each completion; or its name
             `module:function`; or several
    others   as of `sft`; options as of `proximo lm ppo --help`
    """
    return _train("ppo", progress, {"model": model, "data": data} | options, reward)


def grpo(
    *, model: Any, data: Records, reward: Rewards = (), progress: bool = False, **options: Any
) -> LanguageRunResult:
    """Group-relative policy optimisation. Arguments as of `ppo`; options as of `proximo lm grpo --help`."""
    return _train("grpo", progress, {"model": model, "data": data} | options, reward)


def resume(run: Any, *, reward: Rewards = (), progress: bool = False) -> LanguageRunResult:
    """Go on with a run that was cut short, from its newest checkpoint that is whole.

    run     its folder, or its result
    reward  its reward functions again, in their order: a file never imports a module
    """
    prepare_process()
    folder = Path(_named(run))
    command = read_config(folder)["command"]
    functions, _ = functions_of(reward)
    work = resume_training(command, folder, functions=functions)
    return carry_out(command, work, Deadline(None), progress)[0]


def _train(command: str, progress: bool, given: dict[str, Any], reward: Rewards = ()) -> LanguageRunResult:
    prepare_process()
    place = Path(given["out"]).parent if given.get("out") is not None else Path("runs")
    for name in ("data", "evaluation_data"):
        if given.get(name) is not None:
            given[name] = materialised_data(given[name], place)
    functions = None
    if command in SAMPLING:
        functions, given["reward"] = functions_of(reward)
    options: Any = options_from(method(command)[0], _named(given))
    deadline = Deadline(options.run.max_time)
    return carry_out(command, begin(command, options, functions), deadline, progress)[0]


def carry_out(
    command: str,
    work: TrainingState,
    deadline: Deadline,
    progress: bool,
    stop: StopRequest | None = None,
    look: Callable[[Iteration], None] | None = None,
) -> tuple[LanguageRunResult, int]:
    """Train as long as `take_turns` does; returns also its exit status.

    stop  of `graceful_stop`, where signals are to be heard
    look  gets every iteration
    """
    total, deadline.saving = work.trainer.total, lambda: work.run.saving_seconds
    turns = shown(work.iterations(), f"lm {command}", total, progress, look)
    last, status, seconds = take_turns(turns, lambda iteration: iteration.last, deadline, stop)
    done = (work.number, 0, {}) if last is None else (last.number, last.tokens, last.metrics)
    number, tokens, metrics = done
    place, known = work.run.path, work.trainer.notes
    return LanguageRunResult(place, command, number, total, tokens, seconds, metrics, known), status


def functions_of(rewards: Rewards) -> tuple[list[RewardFunction], tuple[str, ...]]:
    """Reward functions and what they are called in a run's `config.json`."""
    given: list[Any] = [rewards] if isinstance(rewards, str) or callable(rewards) else list(rewards)
    functions = [reward_function(one) if isinstance(one, str) else one for one in given]
    for one in functions:
        if not callable(one):
            raise UserError(f"reward is {one!r}: give functions, or names such as module:function")
    return functions, tuple(one if isinstance(one, str) else _name(one) for one in given)


def _name(function: RewardFunction) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None)}:{name}"


def materialised_data(data: Any, place: Path) -> Any:
    """The file of the data; records are written to one, named by their content, so that a run can go on.

    place  the folder for it
    """
    if isinstance(data, str | Path):
        return data
    try:
        content = "".join(json.dumps(dict(record)) + "\n" for record in data).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"data must be a file of JSON lines, or records of plain data ({error})") from error
    path = place / f"data-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    place.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return path


def _named(given: Any) -> Any:
    """Results of runs as their folders, wherever a folder is wanted."""
    if isinstance(given, LanguageRunResult):
        return given.folder
    if isinstance(given, Mapping):
        return {name: _named(value) for name, value in given.items()}
    return [_named(one) for one in given] if isinstance(given, list) else given
