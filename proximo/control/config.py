"""One configuration: the options that live beside their code, composed; and the presets."""

import contextlib
import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import tyro

from proximo.control.presets import METHODS, PRESETS, RECIPES
from proximo.core import Clip, DualClip
from proximo.envs import family, name_of, own_num_envs
from proximo.envs.description import NotPlain, plain_arguments, restored
from proximo.errors import UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.options import UpdateOptions
from proximo.plain import plain
from proximo.policies import NetworkOptions

VectorizationMode = Literal["sync", "async", "vector_entry_point", "parallel"]


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; the same configuration gives the same run."""

    env: tyro.conf.Positional[Any]
    """A Gymnasium id, `module:EnvId`, or (from Python) an environment, a class, a function, a vector."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment: values are JSON, such as `is_slippery=false`, or else text."""
    steps: int = 1_000_000
    """Environment steps to learn from, summed over the environments."""
    seed: int = 0
    """Every random stream is split from it."""
    num_envs: int = 8
    """N: environments stepped side by side."""
    horizon: int = 256
    """T: steps of each environment between two updates."""
    vectorization_mode: VectorizationMode = "sync"
    """`sync`: in this process; `parallel`: split across cores; `async`: a process each;
    `vector_entry_point`: the environment's own vector."""
    until: float | None = None
    """Stop once the mean return of the last 100 training episodes reaches this."""
    step_timeout: float = 60.0
    """Seconds of one step after which an environment is taken for hung."""
    max_restarts: int = 10
    """With `parallel`, `async`: how many times in all a failed environment is made anew."""
    restart_interval: float = 60.0
    """With `parallel`, `async`: a second failure of the same worker within so many seconds ends the run."""
    update: UpdateOptions = field(default_factory=UpdateOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)

    @property
    def name(self) -> str:
        """The environment's id, or the name of the object that was passed."""
        return name_of(self.env)


def option_owners() -> Mapping[str, str]:
    """Every option's name -> the part of `Config` it lives in ('' for its own)."""
    owners = {f.name: "" for f in fields(Config)}
    for part, kind in (("update", UpdateOptions), ("network", NetworkOptions)):
        owners |= {f.name: part for f in fields(kind)}
        del owners[part]
    return owners


def with_options(config: Config, **options: Any) -> Config:
    """`config` with options changed by their flat names.

    `clip=0.1` stands for `objective=Clip(0.1)`. Raises UserError for a name that does not exist, with
    the nearest ones.
    """
    if "clip" in options:
        options = {**options, "objective": Clip(options["clip"])}
        del options["clip"]
    owners = option_owners()
    options = {name: value if name == "env" else plain(value) for name, value in options.items()}
    for name in options:
        if name not in owners:
            near = difflib.get_close_matches(name, [*owners, "clip"], n=3)
            hint = f"; the nearest: {', '.join(near)}" if near else ""
            raise UserError(f"there is no option {name!r}{hint}")
    parts: dict[str, dict[str, Any]] = {"": {}, "update": {}, "network": {}}
    for name, value in options.items():
        parts[owners[name]][name] = tuple(value) if isinstance(value, list) else value
    return replace(
        config,
        update=replace(config.update, **parts["update"]),
        network=replace(config.network, **parts["network"]),
        **parts[""],
    )


def preset(name: str, env: Any) -> Config:
    """The configuration of a preset; `default` depends on the environment's family.

    Raises UserError for a name that does not exist.
    """
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: take one of {', '.join(PRESETS)}")
    config = with_options(Config(env), **(recipe(env) if name == "default" else METHODS[name]))
    return fitted(config)


def recipe(env: Any) -> dict[str, Any]:
    """What the default preset changes for an environment; nothing for one of a kind not seen before."""
    try:
        return RECIPES.get(family(name_of(env)), {})
    except UserError:
        if isinstance(env, str):
            raise
        return {}  # an object whose class is not registered


def fitted(config: Config) -> Config:
    """With as many environments as an object brings along, and rollouts of about the same size."""
    num_envs = own_num_envs(config.env)
    if num_envs is None:
        return config
    minibatch = config.update.minibatch_size
    horizon = config.num_envs * config.horizon // num_envs // minibatch * minibatch
    return replace(config, num_envs=num_envs, horizon=max(horizon, minibatch))


def require(condition: bool, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def validated(config: Config) -> Config:
    """The same configuration, or a UserError that says which option cannot be and what could."""
    config = replace(
        config, **{f.name: plain(getattr(config, f.name)) for f in fields(config) if f.name != "env"}
    )
    update, network = config.update, config.network
    _possible_arguments(config.env_kwargs)
    counts: list[tuple[Any, str, int]] = [(config, name, 1) for name in ("steps", "num_envs", "horizon")]
    counts += [(update, name, 1) for name in ("epochs", "minibatch_size")]
    for owner, name, least in [*counts, (config, "seed", 0), (config, "max_restarts", 0)]:
        value = getattr(owner, name)
        good = isinstance(value, int) and value >= least
        require(good, f"{name} is {value!r}: it must be a whole number and at least {least}")
    for part in (config, update, network):
        for name, kind in get_type_hints(type(part)).items():
            _of_its_kind(name, kind, getattr(part, name))
    for name in ("gamma", "gae_lambda"):
        value = getattr(update, name)
        require(0.0 <= value <= 1.0, f"{name} is {value}: it must lie between 0 and 1")
    for name in ("learning_rate", "max_grad_norm", "adam_epsilon"):
        value = getattr(update, name)
        require(value > 0.0, f"{name} is {value}: it must be above 0")
    require(config.step_timeout > 0.0, f"step_timeout is {config.step_timeout}: it must be above 0")
    require(
        config.restart_interval >= 0.0,
        f"restart_interval is {config.restart_interval}: it must be at least 0",
    )
    for name in ("value_coefficient", "entropy_coefficient"):
        value = getattr(update, name)
        require(value >= 0.0, f"{name} is {value}: it must be at least 0")
    for name in ("target_kl", "learning_rate_kl"):
        value = getattr(update, name)
        require(value is None or value > 0.0, f"{name} is {value}: it must be above 0")
    _possible_choices(update, network, config.num_envs)
    for name in ("hidden", "critic_hidden"):
        widths = getattr(network, name)
        good = isinstance(widths, tuple) and all(isinstance(width, int) and width >= 1 for width in widths)
        good = good or (widths is None and name == "critic_hidden")
        require(good, f"{name} is {widths!r}: give whole numbers from 1 on, such as (64, 64)")
    return _whole_minibatches(config)


def _of_its_kind(name: str, kind: Any, value: Any) -> None:
    """Raises UserError for a value of another type than its option has."""
    choices = get_args(kind) or (kind,)
    if get_origin(kind) is Literal:
        require(value in choices, f"{name} is {value!r}: take one of {', '.join(map(str, choices))}")
    elif value is not None or type(None) not in choices:
        number = isinstance(value, Real) and not isinstance(value, bool)
        require(float not in choices or number, f"{name} is {value!r}: it must be a number")
        require(kind is not bool or isinstance(value, bool), f"{name} is {value!r}: it must be True or False")


def _possible_arguments(env_kwargs: Any) -> None:
    """Raises UserError for what cannot be the keyword arguments of an environment."""
    named = isinstance(env_kwargs, Mapping) and all(isinstance(name, str) for name in env_kwargs)
    require(named, f"env_kwargs is {env_kwargs!r}: give names with values, such as {{'is_slippery': False}}")
    for name in OURS:
        require(
            name not in env_kwargs,
            f"{name} is no argument of an environment: take it out of env_kwargs",
        )


OURS = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "allow_import")
MAY_BE_0 = ("limit", "extra_std")
BELOW_1 = ("decay",)


def _possible_choices(update: UpdateOptions, network: NetworkOptions, num_envs: int) -> None:
    """Raises UserError where an objective, a value loss or an actor step cannot be, or not together."""
    for choice in (update.objective, update.value_loss, update.actor_step):
        _compilable(choice)
        if not type(choice).__module__.startswith("proximo."):
            continue  # of the user's own: what its numbers may be, only they know
        for number in fields(choice):
            value, name = getattr(choice, number.name), f"{type(choice).__name__}'s {number.name}"
            zero_is_good = value == 0 and number.name in MAY_BE_0
            require(value > 0 or zero_is_good, f"{name} is {value}: it must be above 0")
            require(value < 1 or number.name not in BELOW_1, f"{name} is {value}: it must be below 1")
    if isinstance(update.objective, DualClip):
        bound = update.objective.bound
        require(bound > 1.0, f"DualClip's bound is {bound}: it must be above 1, the ratio before the update")
    require(
        not update.anneal_clip or hasattr(update.objective, "annealed"),
        f"anneal_clip needs a clipped objective, not {type(update.objective).__name__}",
    )
    actor_step = type(update.actor_step).__name__
    require(
        update.actor_step.joint or not network.shared,
        f"{actor_step} moves the actor alone, which needs separate networks: leave --shared out",
    )
    for name in ("target_kl", "learning_rate_kl"):
        require(
            update.actor_step.joint or getattr(update, name) is None,
            f"{name} follows the actor's KL through the epochs, which {actor_step} moves once: leave it out",
        )
    if isinstance(update.actor_step, CrossEntropy):
        elite = update.actor_step.elite
        require(elite <= num_envs, f"elite is {elite}: at most num_envs = {num_envs}")


def _compilable(choice: Any) -> None:
    """Raises UserError unless JAX sees into it, and sees numbers."""
    if isinstance(choice, type):
        raise UserError(f"{choice.__name__} is a class: write {choice.__name__}()")
    values = [getattr(choice, one.name) for one in fields(choice)] if is_dataclass(choice) else [None]
    require(
        all(isinstance(value, Real) for value in values) and not jax.tree_util.all_leaves([choice]),
        f"{type(choice).__name__} cannot be compiled in: make it a frozen dataclass of numbers, under "
        "@traceable of proximo.core.arrays",
    )


def _whole_minibatches(config: Config) -> Config:
    batch, size = config.num_envs * config.horizon, config.update.minibatch_size
    shape = f"num_envs x horizon = {config.num_envs} x {config.horizon} = {batch}"
    require(size <= batch, f"minibatch_size is {size}, larger than the batch ({shape}): take at most {batch}")
    if batch % size:
        divisors = [d for d in range(1, batch + 1) if batch % d == 0]
        near = sorted(sorted(divisors, key=lambda d: abs(d - size))[:3])
        raise UserError(
            f"minibatch_size is {size}, which does not divide the batch ({shape}): "
            f"take {', '.join(map(str, near[:-1]))} or {near[-1]}"
        )
    return config


def as_json(config: Config) -> dict[str, Any]:
    """The configuration as plain data; an objective is {"name": class, ...its numbers}."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            named = (
                {}
                if isinstance(value, Config | UpdateOptions | NetworkOptions)
                else {"name": type(value).__name__}
            )
            return named | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return list(value) if isinstance(value, tuple) else value

    return plain(replace(config, env=config.name, env_kwargs=plain_arguments(config.env_kwargs)))


def from_json(data: Mapping[str, Any]) -> Config:
    """The configuration that `as_json` described. Raises UserError for what no configuration says.

    It comes from a file: names are looked up among our own options and classes, nothing else happens.
    """
    try:
        parts = {"update": UpdateOptions, "network": NetworkOptions}
        built = {name: _built(kind, data[name]) for name, kind in parts.items()}
        config = Config(**{**data, **built, "env_kwargs": _readable(data.get("env_kwargs", {}))})
        if not isinstance(config.env, str):
            raise TypeError(f"env is {config.env!r}")
        return validated(config)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(repr(error).split())[:200]
        raise UserError(f"the configuration in the file is none of this version ({reason})") from error


def _readable(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's arguments, but for those that no file holds; its description names these."""
    found = {}
    for name, value in env_kwargs.items():
        with contextlib.suppress(NotPlain):
            found[name] = restored(value)
    return found


def _built(kind: Any, data: Mapping[str, Any]) -> Any:
    """An options class from plain data: lists are tuples, {"name": ...} is one of an option's classes."""
    values = {}
    for name, declared in get_type_hints(kind).items():
        if name not in data:  # an option that is newer than the file: its default
            continue
        value = data[name]
        if isinstance(value, dict):
            choices = {choice.__name__: choice for choice in get_args(declared)}
            require(
                value.get("name") in choices,
                f"its {name} is {value.get('name')!r}, no class of Proximo's, and a file imports none: "
                "the run can be loaded and evaluated, but not resumed",
            )
            value = choices[value["name"]](**{key: v for key, v in value.items() if key != "name"})
        values[name] = tuple(value) if isinstance(value, list) else value
    if unknown := set(data) - set(values):
        raise ValueError(f"unknown options {sorted(unknown)}")
    return kind(**values)
