"""The algorithm's options: one default each, with its reason."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from proximo.core import Clip, Objective, SquaredError, ValueLoss
from proximo.core.arrays import traceable
from proximo.core.ranges import above, at_least, between
from proximo.learn.actor_steps import ActorStep, JointGradient
from proximo.options import OR_OWN, also


@traceable
@dataclass(frozen=True)
class UpdateOptions:
    """How the policy is updated."""

    epochs: Annotated[int, at_least(1), also("--update-epochs", "--n-epochs")] = 10
    """Passes over each rollout (K)."""
    minibatch_size: Annotated[int, at_least(1), also("--batch-size")] = 64
    """Samples in one gradient step (M)."""
    learning_rate: Annotated[float, above(0), also("--lr")] = 3e-4
    """Adam's learning rate (its initial value, if it is annealed)."""
    anneal: Annotated[bool, also("--anneal-lr")] = True
    """Decay the learning rate linearly to 0 at the last step (Huang 2022, detail 4)."""
    adam_epsilon: Annotated[float, above(0)] = 1e-5
    """Adam's epsilon. OpenAI's baselines have 1e-5 (Huang 2022, detail 3)."""
    gamma: Annotated[float, between(0, 1)] = 0.99
    """Discount factor per step."""
    gae_lambda: Annotated[float, between(0, 1), also("--lam")] = 0.95
    """Trades bias for variance of the advantage: 0 relies on the critic, 1 on the rewards."""
    objective: Annotated[Objective, OR_OWN] = field(default_factory=Clip)
    """What the policy maximises."""
    anneal_clip: bool = False
    """Decay the clip range linearly to 0 as well (the paper's Atari runs, table 5)."""
    value_loss: Annotated[ValueLoss, OR_OWN] = field(default_factory=SquaredError)
    """What the critic minimises. Clipping it does not help (Andrychowicz 2020)."""
    value_coefficient: Annotated[float, at_least(0), also("--vf-coef")] = 0.5
    """Weight of the critic's loss, 0.5 (V - target)^2 (c1 of eq. 9). Twice Stable-Baselines3's vf_coef, whose
    loss has no 0.5."""
    entropy_coefficient: Annotated[float, at_least(0), also("--ent-coef")] = 0.0
    """c2 of eq. 9: the entropy bonus; it does not help in continuous control."""
    max_grad_norm: Annotated[float, above(0, infinite=True)] = 0.5
    """Maximum norm of the gradient of all parameters together."""
    target_kl: Annotated[float | None, above(0)] = None
    """Stop an update early once the KL divergence of a minibatch passes 1.5 times this."""
    learning_rate_kl: Annotated[float | None, above(0)] = None
    """Adapt the learning rate after each epoch so that the KL divergence of an update stays near this."""
    actor_step: Annotated[ActorStep, OR_OWN] = field(default_factory=JointGradient)
    """How the actor is updated; all but `joint-gradient` use the whole batch at once, before the critic."""
    advantage_normalisation: Literal["minibatch", "batch", "none"] = "minibatch"
    """Normalise advantages to mean 0 and std 1, in each minibatch or over the whole batch."""
    advantages: Literal["once", "every-epoch"] = "every-epoch"
    """Compute them once, or again with the new critic in every epoch: often better (Andrychowicz 2020)."""
    baseline: bool = True
    """Subtract the critic's value; without it the actor uses the returns themselves (REINFORCE)."""
    normalise_observations: bool = True
    """Normalise by running mean and std, frozen from a rollout to the end of its update."""
    normalise_rewards: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    clip_rewards: bool = False
    """Learn from the sign of each reward (Mnih 2015). Returns are logged as they are."""
