"""The configuration, composed of the options that are defined beside their code; and the presets."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro
from gymnasium.envs.registration import EnvSpec

from proximo import options
from proximo.control.presets import ATARI, ATARI_ALONE, METHODS, PRESETS, RECIPES
from proximo.core.ranges import above, at_least
from proximo.envs import family, find_env, name_of, own_num_envs
from proximo.envs.description import NotPlain, plain_arguments, restored
from proximo.envs.scaling import OLDER_FILES
from proximo.errors import UserError
from proximo.learn.actor_steps import CrossEntropy
from proximo.learn.options import UpdateOptions
from proximo.learn.own_functions import check_functions
from proximo.options import SECONDS, Group, also, checked, is_own, with_options
from proximo.own import OPTIONS
from proximo.own import name_of as named
from proximo.policies import OLDER_NETWORKS, NetworkOptions
from proximo.policies.distributions import BoundedBeta, Normal, StateDependentExploration

ENVIRONMENT = Group("environment")
VectorizationMode = Literal["sync", "async", "vector_entry_point", "parallel", "auto"]


@dataclass(frozen=True)
class Config:
    """Everything that determines a run; the same configuration gives the same run."""

    env: tyro.conf.Positional[Any]
    """A Gymnasium id, or your own environment: `file.py:Class`, `module:Class`, `module:EnvId`.
    `Class` may also be a function that makes it."""
    env_kwargs: Annotated[dict[str, Any], ENVIRONMENT] = field(default_factory=dict)
    """Arguments of the environment, such as `is_slippery=false`. Values are JSON, or else text."""
    steps: Annotated[int, at_least(1), also("--total-timesteps", "--n-timesteps", "--timesteps")] = 1_000_000
    """Environment steps to train for, summed over all environments."""
    seed: Annotated[int, at_least(0)] = 0
    """Random seed. The same seed gives the same run."""
    num_envs: Annotated[int, at_least(1), also("--n-envs"), ENVIRONMENT] = 8
    """Number of parallel environments (N)."""
    horizon: Annotated[int, at_least(1), also("--num-steps", "--n-steps")] = 256
    """Steps of each environment per update (T)."""
    vectorization_mode: Annotated[VectorizationMode, ENVIRONMENT] = "sync"
    """Where environments are stepped. `sync`: in this process; `parallel`: split across cores; `auto`: the
    faster of these two, measured; `async`: one process each; `vector_entry_point`: their own vector."""
    until: float | None = None
    """Stop once the mean return of the last 100 training episodes reaches this."""
    scale_actions: Annotated[bool, also("--action-scaling", "--normalize-actions"), ENVIRONMENT] = True
    """Map actions from -1 to 1 onto the bounds of the action space. Without this, actions in watts or degrees
    are out of reach. The presets do not scale MuJoCo's actions, as in published runs."""
    life_loss: Annotated[bool, ENVIRONMENT] = False
    """A lost life ends the value, not the game (Mnih 2015). For vectors that count `lives`: Atari's do."""
    step_timeout: Annotated[float, above(0, infinite=True), SECONDS, ENVIRONMENT] = 60.0
    """An environment whose step takes longer than this is treated as hung."""
    max_restarts: Annotated[int, at_least(0), ENVIRONMENT] = 10
    """With `parallel`, `auto`, `async`: maximum number of restarts of failed environments."""
    restart_interval: Annotated[float, at_least(0, infinite=True), SECONDS, ENVIRONMENT] = 60.0
    """With `parallel`, `auto`, `async`: end the run if the same worker fails twice within this time."""
    update: Annotated[UpdateOptions, tyro.conf.arg(name="algorithm")] = field(default_factory=UpdateOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)

    def __repr__(self) -> str:
        """What differs from the defaults: the repr of a user's environment may be long."""
        found = options.changes(replace(self, env=None), Config(None))
        return (
            f"Config({', '.join([repr(self.name), *(f'{name}={value!r}' for name, value in found.items())])})"
        )

    @property
    def name(self) -> str:
        """The environment's id, or the name of the object that was passed."""
        return name_of(self.env)

    @property
    def population(self) -> CrossEntropy | None:
        """The options of the cross-entropy method; None for methods that follow a gradient."""
        step = self.update.actor_step
        return step if isinstance(step, CrossEntropy) else None


def preset(name: str, env: Any) -> Config:
    """The configuration of a preset; `default` depends on the environment's family.

    Raises UserError for a name that does not exist.
    """
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: take one of {', '.join(PRESETS)}")
    of_images = ATARI if family_of(env) == "atari" else {}
    if name in ATARI_ALONE and not of_images:
        raise UserError(f"the preset {name} is for Atari games: leave it out, or use `paper`")
    if of_images and name not in of_images:
        raise UserError(
            f"the preset {name} is not for Atari games: take one of {', '.join(sorted(of_images))}"
        )
    options_of = {**METHODS, "default": recipe(env), **of_images}
    config = with_options(Config(env), **options_of[name])
    if family_of(env) == "mujoco":
        config = replace(config, scale_actions=False)  # as in every published run of them, and in ours
    return fit_to_vector(config)


def recipe(env: Any) -> dict[str, Any]:
    """What the default preset changes for an environment; nothing for an unknown family."""
    return RECIPES.get(family_of(env), {})


def family_of(env: Any) -> str:
    """The family of an environment; "other" for one of the user's own that is not registered.

    Raises UserError for an id that does not exist.
    """
    if isinstance(env, str) and not isinstance(find_env(env), EnvSpec):
        return "other"
    try:
        return family(name_of(env))
    except UserError:
        if isinstance(env, str):
            raise
        return "other"


def fit_to_vector(config: Config) -> Config:
    """With as many environments as an object brings along, and rollouts of about the same size."""
    num_envs = own_num_envs(config.env)
    if num_envs is None:
        return config
    minibatch = config.update.minibatch_size
    horizon = config.num_envs * config.horizon // num_envs // minibatch * minibatch
    return replace(config, num_envs=num_envs, horizon=max(horizon, minibatch))


def validate(config: Config) -> Config:
    """The same configuration, checked. Raises UserError that names an invalid option, and what is valid."""
    config = checked(config)
    for name in OURS:
        if name in config.env_kwargs:
            raise UserError(f"{name} is not an argument of an environment: remove it from env_kwargs")
    _fit_own_code(config)
    _fit_together(config)
    return _whole_minibatches(config)


def own_code_of(config: Config) -> dict[str, Any]:
    """The code of the user's own in a configuration, by the options' names."""
    found = {name: getattr(config.update, name) for name in OPTIONS if name != "network"}
    own = {name: value for name, value in found.items() if is_own(config.update, name)}
    network = config.network.own_network
    return own if network is None else {"network": network, **own}


def _fit_own_code(config: Config) -> None:
    """Raises UserError if the user's own code fails, or does not fit the other options."""
    step, network, own = config.update.actor_step, config.network, own_code_of(config)
    if "actor_step" in own and not (
        isinstance(getattr(step, "joint", None), bool) and hasattr(step, "start")
    ):
        raise UserError(
            f"{named(step)} is not an actor step: it needs `joint` (True or False), `start(policy)` and "
            "`__call__(policy, memory, problem)`, as in proximo/learn/actor_steps.py"
        )
    check_functions(config.update)
    if network.own_network is None:
        return
    called = named(network.own_network)
    if not step.joint:
        raise UserError(
            f"{named(step)} updates only the actor, but in your network {called} it is unknown which arrays "
            "are the actor's: leave one of them out"
        )
    default, presets = NetworkOptions(), [*METHODS.values(), *_recipes(config.env)]
    for name in OF_OUR_NETWORKS:
        value = getattr(network, name)
        if value != getattr(default, name) and value not in [chosen.get(name) for chosen in presets]:
            raise UserError(
                f"{name} is an option of Proximo's networks, which your network {called} ignores: leave "
                f"{name} out"
            )


def _recipes(env: Any) -> list[dict[str, Any]]:
    """The presets of an environment's family; of all, where the environment is not known here."""
    try:
        family = family_of(env)
    except UserError:
        return [*RECIPES.values(), *ATARI.values()]
    return [*ATARI.values()] if family == "atari" else [RECIPES.get(family, {})]


OF_OUR_NETWORKS = (
    *("hidden", "critic_hidden", "layers", "activation", "shared", "initialiser", "policy_gain"),
    *("image_network", "embedding", "text_features", "modulate", "flatten", "critic_only"),
    "separate_critic",
)
KNOWN_LOG_STD = {  # of the class, and of presets, which a distribution of the user's may pass over
    chosen.get("initial_log_std", NetworkOptions.initial_log_std)
    for chosen in ({}, *METHODS.values(), *RECIPES.values())
}
OURS = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "allow_import")


def _fit_together(config: Config) -> None:
    """Raises UserError for an objective or an actor step that needs other options than these."""
    update, step = config.update, config.update.actor_step
    if update.anneal_clip and not hasattr(update.objective, "annealed"):
        raise UserError(f"anneal_clip needs a clipped objective, not {type(update.objective).__name__}")
    if not step.joint and config.network.shared:
        raise UserError(
            f"{type(step).__name__} updates only the actor, which needs separate networks: leave out --shared"
        )
    if config.network.separate_critic and config.network.shared:
        raise UserError("shared is one network for actor and critic, separate_critic two: leave one out")
    if config.network.critic_only and config.network.shared:
        raise UserError(
            "critic_only gives the critic an input of its own, and shared has one network for both: leave "
            "one of them out"
        )
    apart = config.network.separate_critic or config.population is not None
    if not step.joint and config.network.memory is not None and not apart:
        raise UserError(
            f"{type(step).__name__} moves the actor alone, and a memory is read by actor and critic: pass "
            "--separate-critic, or leave --network out"
        )
    for name in ("target_kl", "learning_rate_kl"):
        if not step.joint and getattr(update, name) is not None:
            raise UserError(
                f"{name} depends on the actor's KL over several epochs, but {type(step).__name__} "
                "updates the actor only once: leave it out"
            )
    _fit_distribution(config.network)
    population = config.population
    if population is not None and population.elite > config.num_envs:
        raise UserError(f"elite is {population.elite}: it must be at most num_envs, {config.num_envs}")


def _fit_distribution(network: NetworkOptions) -> None:
    """Raises UserError for a distribution that does not know what other options ask of it."""
    distribution = network.distribution
    called = options.kebab(type(distribution).__name__)
    if network.final_log_std is not None and not isinstance(distribution, Normal):
        raise UserError(f"final_log_std is a schedule of `normal`, not of {called}: leave one of them out")
    if isinstance(distribution, BoundedBeta) and network.initial_log_std not in KNOWN_LOG_STD:
        raise UserError(f"{called} has no initial_log_std: leave one of them out")
    if isinstance(distribution, StateDependentExploration) and network.own_network is not None:
        raise UserError(
            f"{called} needs the features of Proximo's own networks: leave it out, or your network "
            f"{named(network.own_network)}"
        )


def _whole_minibatches(config: Config) -> Config:
    batch, size = config.num_envs * config.horizon, config.update.minibatch_size
    shape = f"num_envs x horizon = {config.num_envs} x {config.horizon} = {batch}"
    if size > batch:
        raise UserError(f"minibatch_size is {size}, larger than the batch ({shape}): take at most {batch}")
    if batch % size:
        divisors = [d for d in range(1, batch + 1) if batch % d == 0]
        near = sorted(sorted(divisors, key=lambda d: abs(d - size))[:3])
        raise UserError(
            f"minibatch_size is {size}, which does not divide the batch ({shape}): "
            f"take {', '.join(map(str, near[:-1]))} or {near[-1]}"
        )
    return config


def as_json(config: Config) -> dict[str, Any]:
    """The configuration as plain data; an environment object is replaced by its name."""
    plain = options.as_json(replace(config, env=config.name, env_kwargs={}))
    return {**plain, "env_kwargs": plain_arguments(config.env_kwargs)}


def from_json(data: Any, own: Mapping[str, Any] | None = None) -> Config:
    """The configuration that `as_json` described.

    own  the code of the user's own that it asks for, by the options' names

    Raises UserError for invalid content, OwnCodeMissing for code that was not passed again.
    """
    whole = {**OLDER_FILES, **data} if isinstance(data, Mapping) else data
    if isinstance(data, Mapping) and isinstance(data.get("network"), Mapping):
        whole = {**whole, "network": {**OLDER_NETWORKS, **data["network"]}}
    config = options.from_json(Config, whole, "the configuration in the file", own)
    if not isinstance(config.env, str):
        raise UserError(f"the configuration in the file names no environment: env is {config.env!r}")
    return validate(replace(config, env_kwargs=_readable(config.env_kwargs)))


def _readable(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's arguments, but for those that no file holds; its description names these."""
    found = {}
    for name, value in env_kwargs.items():
        with contextlib.suppress(NotPlain):
            found[name] = restored(value)
    return found
