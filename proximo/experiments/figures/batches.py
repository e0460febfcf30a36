"""How a rollout is cut into minibatches, and how many gradient steps that makes."""

from typing import Any

import jax

from proximo.control.config import Config, preset
from proximo.learn.batches import Steps

PRESETS = (("CartPole-v1", "default"), ("HalfCheetah-v5", "default"), ("HalfCheetah-v5", "paper"))
NAMES = (  # Proximo; Stable-Baselines3; CleanRL; TRL's PPO and `proximo lm ppo`
    ("num_envs", "n_envs", "num_envs", "per_device_train_batch_size"),
    ("horizon", "n_steps", "num_steps", "response_length"),
    ("epochs", "n_epochs", "update_epochs", "num_ppo_epochs"),
    ("minibatch_size", "batch_size", "num_minibatches", "num_mini_batches"),
    ("steps", "total_timesteps", "total_timesteps", "total_episodes"),
)


def counts(config: Config) -> dict[str, int]:
    """What the options of a run come to.

    samples         of a rollout
    minibatches     of an epoch, as the library cuts them
    gradient_steps  of a rollout
    rollouts        of a run in which every row is learned from
    """
    samples = config.num_envs * config.horizon
    order = jax.eval_shape(
        lambda key: Steps(config.update.minibatch_size).order(key, samples), jax.random.key(0)
    )
    steps = config.update.epochs * len(order)
    rollouts = -(-config.steps // samples)
    return {
        "samples": samples,
        "minibatches": len(order),
        "gradient_steps": steps,
        "rollouts": rollouts,
        "gradient_steps_of_run": steps * rollouts,
    }


def batches() -> dict[str, Any]:
    """The numbers of the figure: recipes with their options, and what these come to."""
    found = []
    for env, name in PRESETS:
        config = preset(name, env)
        options = {
            "num_envs": config.num_envs,
            "horizon": config.horizon,
            "epochs": config.update.epochs,
            "minibatch_size": config.update.minibatch_size,
            "steps": config.steps,
        }
        found.append({"name": f"{env}, {name}", "options": options, "counts": counts(config)})
    return {"presets": found, "names": NAMES}


def names() -> str:
    """The names as a table of Markdown."""
    rows = ["| Proximo | Stable-Baselines3 | CleanRL | TRL's PPO |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(row)} |" for row in NAMES]
    return "\n".join(rows)


def recipes() -> str:
    """The recipes as a table of Markdown."""
    head = "recipe", "rollout, N x T", "minibatches", "gradient steps of a rollout", "of a run"
    rows = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|"]
    for one in batches()["presets"]:
        of, made = one["options"], one["counts"]
        shape = f"{of['num_envs']} x {of['horizon']} = {made['samples']:,}"
        cut = f"{made['minibatches']} of {of['minibatch_size']}"
        steps = f"{of['epochs']} epochs: {made['gradient_steps']}"
        run = f"{made['rollouts']} rollouts: {made['gradient_steps_of_run']:,}"
        rows.append(f"| {one['name']} | {shape} | {cut} | {steps} | {run} |")
    return "\n".join(rows)
