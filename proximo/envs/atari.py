"""Atari games: the ROM that an id means, and ale-py's own vector of it, with frames as of Mnih 2015."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from proximo.errors import UserError

PACKAGE = "ale_py"
GAME = re.compile(r"(?P<ale>ALE/)?(?P<game>[A-Z][A-Za-z0-9]+?)(?P<skip>NoFrameskip|Deterministic)?(-v[045])?")
NEVER = {  # options of ale-py's vector that would not do what they seem to
    "episodic_life": "it restarts the whole game at every lost life; a lost life ends the value in any case "
    "(--life-loss)",
    "life_loss_info": "lives are counted in any case (--life-loss)",
    "reward_clipping": "scores would be lost: use --clip-rewards, which learns from their sign",
    "autoreset_mode": "games follow each other with a row in between",
    "batch_size": "all games step together",
}


class Game(NamedTuple):
    """What is played.

    rom         the cartridge, as ale-py calls it
    frame_skip  frames for which an action is held; one step of the environment
    sticky      probability that the console takes the action before once more (Machado 2018)
    """

    rom: str
    frame_skip: int
    sticky: float


def is_atari(vector: Any) -> bool:
    """Whether a vector is ale-py's own."""
    return type(vector).__module__.startswith(PACKAGE)


def find(name: str) -> EnvSpec | None:
    """The entry of an Atari game by any of its ids, or by its name alone, such as "Pong"; None for no game.

    Raises ImportError where ale-py is missing and the name can only be an id of its.
    """
    parts = GAME.fullmatch(name)
    if parts is None or not (parts["ale"] or parts["skip"] or importlib.util.find_spec(PACKAGE)):
        return None
    gym.register_envs(importlib.import_module(PACKAGE))
    return gym.registry.get(name) or gym.registry.get(f"ALE/{parts['game']}-v5")


def game_of(spec: EnvSpec, kwargs: Mapping[str, Any]) -> Game:
    """The game that an id and the arguments of the environment mean.

    Every id means the frames of Mnih 2015, an action held for 4 of them, and no sticky actions: -v5 and -v0
    have sticky ones, -v4 skips 2 to 4 frames at random, and NoFrameskip has none because a wrapper skips.
    What is given by name holds.
    """
    return Game(
        spec.kwargs["game"],
        int(kwargs.get("frameskip", 4)),
        float(kwargs.get("repeat_action_probability", 0.0)),
    )


def in_words(game: Game) -> str:
    """What is played, in one line."""
    sticky = f"sticky with probability {game.sticky:g}" if game.sticky else "never sticky"
    return f"Atari: the game {game.rom}, actions held for {game.frame_skip} frames and {sticky}"


def make_vector(spec: EnvSpec, count: int, kwargs: Mapping[str, Any]) -> gym.vector.VectorEnv:
    """ale-py's vector of a game: frames [4, 84, 84] in grey, raw scores, up to 30 no-ops at the start.

    kwargs  what it takes beside these. Raises UserError for options that do something else than they seem to.
    """
    for name in NEVER:
        if name in kwargs:
            raise UserError(f"{name} is not an option of Atari games here: {NEVER[name]}")
    game = game_of(spec, kwargs)
    drawn = kwargs.get("render_mode")
    if drawn == "human":
        raise UserError(f"{spec.id} has no window here: make a video of it, with --video FILE")
    kwargs = {name: value for name, value in kwargs.items() if name != "render_mode"}
    options = {
        "noop_max": 30,
        **kwargs,
        "frameskip": game.frame_skip,
        "repeat_action_probability": game.sticky,
    }
    vector = importlib.import_module("ale_py.vector_env").AtariVectorEnv
    made: gym.vector.VectorEnv = vector(game.rom, count, reward_clipping=False, **options)
    made.spec = replace(spec, kwargs={**spec.kwargs, **kwargs})
    return made if drawn is None else Drawn(made)


class Drawn(gym.vector.VectorWrapper):
    """A vector that draws the newest frame of its first game, in grey, as the policy sees it."""

    def __init__(self, env: gym.vector.VectorEnv) -> None:
        super().__init__(env)
        self.envs, self.metadata = [self], {**env.metadata, "render_modes": ["rgb_array"]}
        self.frames = np.zeros(env.observation_space.shape or (), np.uint8)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.frames, info = self.env.reset(**options)
        return self.frames, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.frames, *told = self.env.step(actions)
        return self.frames, *told

    def render(self) -> np.ndarray:  # type: ignore[override]
        """uint8 [height, width, 3], each pixel three times as large."""
        grey = np.repeat(np.repeat(self.frames[0, -1], 3, axis=0), 3, axis=1)
        return np.stack([grey] * 3, axis=-1)
