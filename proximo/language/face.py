"""Language models from Python: load a model and generate, and each `proximo lm` command as a function.

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
from proximo.language.new_model import NewModelOptions, make_model
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
    """The result of a training run that finished, or stopped at its `max_time`.

    folder      the run folder; every command and function accepts it as a model
    command     `sft`, `reward`, `ppo`, `dpo` or `grpo`
    iterations  iterations done so far
    total       iterations of the whole run
    tokens      tokens processed in this call
    seconds     time that they took
    metrics     metrics of the last iteration; empty if no iteration was left
    notes       remarks on how data and model were read, such as the number of truncated records
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
        """The trained model. Raises UserError for a reward model, which cannot generate text."""
        return load(self.folder)


def new(folder: str | Path, *, texts: Records, **options: Any) -> Path:
    """Make a small new model: a tokenizer trained on your texts, and random weights. Returns its folder.

        proximo.language.sft(model=proximo.language.new("mine", texts="texts.jsonl"), data="texts.jsonl")

    folder   the model folder to create
    texts    a file, JSON lines or plain text; or a list of records (dicts)
    options  options of `proximo lm new` (see its --help), with underscores

    Raises UserError for invalid options or texts, and if the folder exists.
    """
    with tempfile.TemporaryDirectory() as place:
        given = options | {"texts": Path(materialised_data(texts, Path(place)))}
        make_model(Path(folder), options_from(NewModelOptions, given))
    return Path(folder)


def generate(model: Any, prompts: Any, **options: Any) -> list[Any]:
    """Responses to prompts, short for `load(model).generate(prompts, ...)`."""
    found = model if isinstance(model, LanguageModel) else load(_named(model))
    return found.generate(prompts, **options)


def evaluate(*, model: Any, data: Records, reward: Rewards = (), **options: Any) -> dict[str, Any]:
    """Measure a model on data: perplexity, a reward model's accuracy, or the mean reward of responses.

    model    a model folder, a run, or an id of the Hugging Face Hub
    data     a file of JSON lines, or a list of records (dicts)
    reward   one reward function or several, or their names: `module:function`, `file.py:function`
    options  options of `proximo lm eval` (see its --help), with underscores

    Returns the measurements as plain data. Raises UserError if options or data are invalid.
    """
    functions, names = functions_of(reward)
    with tempfile.TemporaryDirectory() as place:
        given = options | {"model": model, "data": materialised_data(data, Path(place)), "reward": names}
        return evaluate_model(options_from(EvaluationOptions, _named(given)), functions)


def sft(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """Supervised fine-tuning on texts, conversations, or prompts with completions.

        proximo.language.sft(model="Qwen/Qwen2.5-0.5B", data="texts.jsonl", learning_rate=2e-5, lora_rank=8)

    model     a model folder, a run, or an id of the Hugging Face Hub
    data      a file of JSON lines, or a list of records (dicts), which is saved beside the run
    progress  show a progress bar
    options   options of `proximo lm sft` (see its --help), with underscores

    Raises UserError, with a message of one line, if options or data are invalid. If a run fails, what it
    learned before is saved.
    """
    return _train("sft", progress, {"model": model, "data": data} | options)


def reward(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """Train a reward model on preferences. Arguments as in `sft`, options of `proximo lm reward`."""
    return _train("reward", progress, {"model": model, "data": data} | options)


def dpo(*, model: Any, data: Records, progress: bool = False, **options: Any) -> LanguageRunResult:
    """Train a policy on preferences, without a reward model. As `sft`, options of `proximo lm dpo`."""
    return _train("dpo", progress, {"model": model, "data": data} | options)


def ppo(
    *, model: Any, data: Records, reward: Rewards = (), progress: bool = False, **options: Any
) -> LanguageRunResult:
    """Train a policy with PPO to maximise rewards.

        proximo.language.ppo(model=run, data="prompts.jsonl", reward=score, episodes=10_000, kl=FixedKL(0.05))

    reward  a function f(prompts, completions, completion_ids, **columns) -> a number for each completion;
            or its name, `module:function` or `file.py:function`; or a list of these
    others  as in `sft`, options of `proximo lm ppo`
    """
    return _train("ppo", progress, {"model": model, "data": data} | options, reward)


def grpo(
    *, model: Any, data: Records, reward: Rewards = (), progress: bool = False, **options: Any
) -> LanguageRunResult:
    """Train a policy with group relative policy optimisation. As `ppo`, options of `proximo lm grpo`."""
    return _train("grpo", progress, {"model": model, "data": data} | options, reward)


def resume(run: Any, *, reward: Rewards = (), progress: bool = False) -> LanguageRunResult:
    """Resume an interrupted run from its newest intact checkpoint.

    run     its folder, or its result
    reward  the run's reward functions again, in the same order, since run files never import code
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
    """Train until `take_turns` ends; returns the result and the exit status.

    stop  from `graceful_stop`, if signals should stop the run
    look  a function that is called with every iteration
    """
    total, deadline.saving = work.trainer.total, lambda: work.run.saving_seconds
    turns = shown(work.iterations(), f"lm {command}", total, progress, look)
    last, status, seconds = take_turns(turns, lambda iteration: iteration.last, deadline, stop)
    done = (work.number, 0, {}) if last is None else (last.number, last.tokens, last.metrics)
    number, tokens, metrics = done
    place, known = work.run.path, work.trainer.notes
    return LanguageRunResult(place, command, number, total, tokens, seconds, metrics, known), status


def functions_of(rewards: Rewards) -> tuple[list[RewardFunction], tuple[str, ...]]:
    """Reward functions, and their names for a run's `config.json`."""
    given: list[Any] = [rewards] if isinstance(rewards, str) or callable(rewards) else list(rewards)
    functions = [reward_function(one) if isinstance(one, str) else one for one in given]
    for one in functions:
        if not callable(one):
            raise UserError(f"reward is {one!r}: give a function, or a name such as file.py:function")
    return functions, tuple(one if isinstance(one, str) else _name(one) for one in given)


def _name(function: RewardFunction) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None)}:{name}"


def materialised_data(data: Any, place: Path) -> Any:
    """The file with the data. Records are written to a file named by their content, so that a run can resume.

    place  the folder of that file
    """
    if isinstance(data, str | Path):
        return data
    try:
        content = "".join(json.dumps(dict(record)) + "\n" for record in data).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"data must be a file of JSON lines, or a list of plain dicts ({error})") from error
    path = place / f"data-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    place.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return path


def _named(given: Any) -> Any:
    """The same arguments, with run folders in place of run results."""
    if isinstance(given, LanguageRunResult):
        return given.folder
    if isinstance(given, Mapping):
        return {name: _named(value) for name, value in given.items()}
    return [_named(one) for one in given] if isinstance(given, list) else given
