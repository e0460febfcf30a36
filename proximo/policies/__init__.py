"""What acts: distributions, networks, and the actor-critic made of them."""

from proximo.policies.actor_critic import ActorCritic, Output, Policy
from proximo.policies.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    ScheduledGaussianHead,
    dependent_names,
    make_head,
    per_state,
)
from proximo.policies.encoded import OLDER_NETWORKS, EncodedActorCritic, acting_alone
from proximo.policies.mlp import MLP, Dense
from proximo.policies.options import NetworkOptions
from proximo.policies.own_network import OwnPolicy, Sizes, new_policy, takes_parts

__all__ = [
    "MLP",
    "OLDER_NETWORKS",
    "ActorCritic",
    "Bernoulli",
    "Categorical",
    "Dense",
    "DiagonalGaussian",
    "Distribution",
    "EncodedActorCritic",
    "NetworkOptions",
    "Output",
    "OwnPolicy",
    "Policy",
    "ScheduledGaussianHead",
    "Sizes",
    "acting_alone",
    "dependent_names",
    "make_head",
    "new_policy",
    "per_state",
    "takes_parts",
]
