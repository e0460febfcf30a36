"""An interface like Stable-Baselines3's; it calls the same functions as everything else."""

from pathlib import Path
from typing import Any

import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import Config, own_code_of, preset
from proximo.control.model import save_model
from proximo.control.progress import shown
from proximo.control.train import Iteration, training
from proximo.envs.description import importable
from proximo.errors import UserError
from proximo.keywords import by_our_names, environment_of
from proximo.options import with_options
from proximo.own import tell_unnamed
from proximo.runs.process import prepare_process


class PPO:
    """PPO with Stable-Baselines3's methods.

        model = PPO("CartPole-v1").learn(100_000)
        action, _ = model.predict(observation, deterministic=True)
        model.save("cartpole"); model = PPO.load("cartpole")

    env          a Gymnasium id, an environment, a class, a function that makes one, or a vector
    preset_name  "default", "paper", or a method that the paper compares with, such as "trpo"
    options      ours or Stable-Baselines3's names. Its `vf_coef` multiplies a squared error without the
                 factor 0.5, so it becomes twice as large a `value_coefficient`.

    Where it differs: `learn` starts from fresh parameters (a second call trains from scratch), and the
    default hyper-parameters are our recipes, not Stable-Baselines3's. "MlpPolicy" may come before the
    environment and has no effect; `hidden=(64, 64)` sets the size of the networks. Raises UserError for
    another policy, and for options that mean something else here.
    """

    def __init__(self, *env: Any, preset_name: str = "default", **options: Any) -> None:
        whole = environment_of(env, options)
        if "vf_coef" in options:
            options["vf_coef"] *= 2.0
        ours = by_our_names(Config, options)
        self.config: Config | None = with_options(preset(preset_name, whole), **ours)
        self.agent: Agent | None = None
        self.last: Iteration | None = None

    def __repr__(self) -> str:
        name = self.config.name if self.config is not None else self._trained().name
        if self.agent is None:
            return f"PPO({name!r}, not trained yet)"
        if self.last is None:
            return f"PPO({name!r}, loaded)"
        return f"PPO({name!r}, {self.last.steps:,} steps, mean return {self.last.mean_return:,.1f})"

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle: what was learned, and the environment if it can be imported by its name."""
        config = self.config if self.config is not None and importable(self.config.env) else None
        return {"config": config, "agent": self.agent, "last": None}

    def learn(
        self,
        total_timesteps: int,
        callback: None = None,
        log_interval: int = 1,
        tb_log_name: str = "PPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> "PPO":
        """Train for `total_timesteps` environment steps; returns itself.

        callback             must be None: write the loop instead, `for iteration in proximo.training(config)`
        reset_num_timesteps  must be True: every call trains from scratch
        log_interval, tb_log_name  have no effect: Stable-Baselines3's tables are not printed here
        """
        by_our_names(Config, {"callback": callback, "reset_num_timesteps": reset_num_timesteps})
        if self.config is None:
            raise UserError(
                "a loaded model has no environment to train in: make a new PPO(env) and call learn"
            )
        prepare_process()
        config = with_options(self.config, steps=total_timesteps)
        tell_unnamed({name: code for name, code in own_code_of(config).items() if name == "network"})
        for iteration in shown(training(config), config, progress_bar):
            self.last, self.agent = iteration, iteration.agent
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """The action for an observation (or a batch), and what a policy with a memory remembers after it.

        state          what it remembers of the episodes so far: what the call before gave; None before it
        episode_start  which observations are the first of an episode, where the state is forgotten
        action_masks   which actions are legal, as sb3-contrib has it; see `Agent.act`

        Without a memory the state is handed back as it came.
        """
        return self._trained().act_with_state(
            observation, state, episode_start, deterministic=deterministic, legal=action_masks
        )

    def save(self, path: str | Path) -> None:
        """Write the model into the folder `path` (safetensors and JSON; nothing executable)."""
        save_model(self._trained(), Path(path))

    @classmethod
    def load(cls, path: str | Path, *, network: Any = None) -> "PPO":
        """A model that `save` wrote, or that of a run folder; it can predict and be saved again.

        network  the class or function that it was made with, where the network is your own
        """
        from proximo.control.run import load

        model = cls.__new__(cls)
        model.config, model.last, model.agent = None, None, load(path, network=network)
        return model

    def _trained(self) -> Agent:
        if self.agent is None:
            raise UserError("this model is not trained yet: call learn(total_timesteps) first")
        return self.agent
