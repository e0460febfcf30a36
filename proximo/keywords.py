"""Other libraries' words in Python calls: `proximo.train(env, total_timesteps=100_000)`.

They are those of the command line (`proximo.words`, `proximo.foreign`), with underscores. A name with the
same meaning is translated. Any other is an error that shows our name. No argument is silently ignored.
"""

import re
from collections.abc import Mapping
from typing import Any

from proximo.errors import UserError
from proximo.options import flat_name, flat_options
from proximo.words import Dialect

POLICIES = ("MlpPolicy", "MultiInputPolicy")  # what every policy here is
CLIP = {"clip_range": "clip", "clip_coef": "clip", "cliprange": "clip", "epsilon": "clip"}
OF_EVALUATION = {
    "return_episode_rewards": "the result has `returns` and `lengths` in any case: leave it out",
    "callback": "the result has `returns` and `lengths`: leave it out",
    "render": "use proximo.control.watch.watch(run.agent) or `proximo watch RUN` instead: leave it out",
    "reward_threshold": "compare the result's `mean` or `low` yourself: leave it out",
    "warn": "leave it out",
}


def by_our_names(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a Python call under our own names.

    kind  the class of all options, such as `Config`

    Raises UserError where two words set the same option, and for a word that means something else here.
    """
    dialect = Dialect("train", kind)
    names = {flat_name(alias): name for alias, name in dialect.aliases.items()} | CLIP
    ours = flat_options(kind)
    found: dict[str, Any] = {}
    said_by: dict[str, str] = {}
    for word, value in given.items():
        foreign = dialect.foreign.get(f"--{word.replace('_', '-')}")
        if word not in ours and foreign is not None:
            if foreign.harmless is not None and str(value).lower() not in foreign.harmless:
                raise UserError(f"{word}: {in_python(foreign.instead)}")
            continue
        name = names.get(word, word)
        if name in found:
            raise UserError(f"{said_by[name]} and {word} both set {name}: give only one of them")
        if callable(value) and not isinstance(value, type) and name in ("learning_rate", "clip"):
            falls = "anneal" if name == "learning_rate" else "anneal_clip"
            raise UserError(f"{word} is a function: give a number; {falls}=True anneals it linearly to 0")
        found[name], said_by[name] = value, word
    return found


def environment_of(words: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The environment from the positional arguments of Stable-Baselines3's constructors: policy, environment.

    words    given without names
    options  given by name; `policy` and `env` are taken out

    Raises UserError for a policy that does not exist here, and unless there is exactly one environment.
    """
    first, *more = [*words, *(options.pop(name) for name in ("policy", "env") if name in options)] or [None]
    if isinstance(first, str) and first.endswith("Policy"):
        if first not in POLICIES:
            raise UserError(
                f"there is no {first}: leave it out; images are read by convolutions, and network= chooses a "
                "memory"
            )
        first, *more = more or [None]
    if first is None or more:
        raise UserError("pass one environment, then options by name: PPO('CartPole-v1', gamma=0.99)")
    return first


def of_evaluation(options: dict[str, Any]) -> dict[str, Any]:
    """Options of an evaluation under our own names. Raises UserError for words that mean something else."""
    for word in options:
        if word in OF_EVALUATION:
            raise UserError(f"{word}: {OF_EVALUATION[word]}")
    return {"episodes" if word == "n_eval_episodes" else word: value for word, value in options.items()}


def in_python(advice: str) -> str:
    """Advice about options in Python's spelling: `use --video-every N` becomes `use video_every N`."""
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), advice)
