"""A new run that starts from the policy of another one.

It takes the networks, and the observation statistics, without which the networks would see other numbers.
Everything else starts from scratch: Adam's moments and the reward scale belong to the earlier training, and a
model folder has neither.
"""

from dataclasses import is_dataclass
from typing import Any

import jax
import numpy as np

from proximo.control.agent import Agent
from proximo.control.config import Config
from proximo.envs import HostEnvs
from proximo.envs.compare import space_differences
from proximo.errors import UserError
from proximo.learn.update import Learner
from proximo.options import as_words, changes
from proximo.runs.named import named_arrays, restore_tree

AT_THE_START = ("initialiser", "policy_gain", "initial_log_std")  # options that decide first weights alone


def warm_started(learner: Learner, agent: Agent | None, config: Config, envs: HostEnvs) -> Learner:
    """A new learner with the policy and the observation statistics of an agent; as it is without one.

    Raises UserError if spaces or networks differ.
    """
    if agent is None:
        return learner
    differences = list(space_differences(agent.spaces, envs.spaces))
    grave = [one.text for one in differences if one.grave or (agent.scale_actions and "action" in one.text)]
    if grave:
        raise UserError(
            f"the policy to start from was trained on {agent.name}, but {envs.name} has different spaces: "
            f"{'; '.join(grave[:3])}"
        )
    if agent.scale_actions != config.scale_actions:
        how, word = ("with", "--scale-actions") if agent.scale_actions else ("without", "--no-scale-actions")
        raise UserError(f"the policy to start from was trained {how} scaled actions: pass {word}")
    _check_networks(learner.policy, agent.policy)
    if not np.array_equal(agent.observations.active, learner.observations.active):
        here = config.update.normalise_observations
        how, word = (
            ("without", "--no-normalise-observations") if here else ("with", "--normalise-observations")
        )
        raise UserError(f"the policy to start from was trained {how} normalised observations: pass {word}")
    policy = restore_tree(learner.policy, named_arrays(agent.policy), "the policy to start from")
    return learner._replace(
        policy=policy,
        actor_memory=config.update.actor_step.start(policy),
        observations=jax.tree.map(jax.numpy.asarray, agent.observations),
    )


def _check_networks(here: Any, there: Any) -> None:
    """Raises UserError where the networks of two policies differ in more than their numbers."""
    ours, theirs = getattr(here, "options", None), getattr(there, "options", None)
    if is_dataclass(ours) and type(ours) is type(theirs):
        differing = {name: value for name, value in changes(theirs, ours).items() if name not in AT_THE_START}
        if differing:
            told = ", ".join(
                f"{name} is {getattr(ours, name)}, not {value}" for name, value in differing.items()
            )
            words = " ".join(
                as_words({name: value for name, value in differing.items() if value is not None})
            )
            raise UserError(
                f"the policy to start from has different networks ({told}): "
                + (f"pass {words}" if words else "leave out the options that differ")
            )
    shapes = [{n: a.shape for n, a in named_arrays(policy).items()} for policy in (here, there)]
    if type(here) is not type(there) or shapes[0] != shapes[1]:
        raise UserError(
            "the policy to start from has different networks: pass the network options of its training"
        )
