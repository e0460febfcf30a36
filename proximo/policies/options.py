"""Options of the networks: what they are made of, and how they begin."""

from dataclasses import dataclass, field
from typing import Annotated

from proximo.core.ranges import Range, at_least
from proximo.own import OwnCode
from proximo.policies.attention import Transformer
from proximo.policies.convolution import ImageOptions
from proximo.policies.distributions import ContinuousDistribution, Normal
from proximo.policies.memory import Gru, Lstm
from proximo.policies.mlp import Activation, Initialiser, Layers


@dataclass(frozen=True)
class NetworkOptions:
    """Size and initialisation of the networks."""

    hidden: Annotated[tuple[int, ...], at_least(1)] = (64, 64)
    """Widths of the hidden layers. The paper has 64 64 for MuJoCo."""
    critic_hidden: Annotated[tuple[int, ...] | None, at_least(1)] = None
    """Widths of the critic's own hidden layers; by default as `hidden`, or none on a shared trunk."""
    layers: Layers = "plain"
    """Kind of hidden layers: dense ones, with layer normalisation, or SimBa's residual blocks (Lee 2024)."""
    activation: Activation = "tanh"
    """Activation function; tanh is the paper's, and the best in Andrychowicz 2020."""
    shared: bool = False
    """One network for actor and critic, with two heads. Separate ones do better (Andrychowicz 2020)."""
    separate_critic: bool = False
    """Encoders and a memory of the critic's own. By default it uses the actor's, as in CleanRL and Sample
    Factory: that trains 1.4 to 1.6 times as fast. Dense layers follow `shared`."""
    initialiser: Initialiser = "orthogonal"
    """Initialisation of the weights; hidden gain sqrt 2, value 1 (Huang 2022, detail 2)."""
    policy_gain: Annotated[float, Range()] = 0.01
    """Gain of the policy's last layer. Small, so that the first actions are near 0 (Andrychowicz 2020)."""
    initial_log_std: Annotated[float, Range()] = 0.0
    """Initial log standard deviation of a Gaussian policy."""
    final_log_std: Annotated[float | None, Range()] = None
    """Change it linearly to this over the training instead of learning it (table 4: -0.7 to -1.6)."""
    distribution: ContinuousDistribution = field(default_factory=Normal)
    """Of actions that are real numbers; `tanh-normal` and `bounded-beta` need finite bounds."""
    network: Lstm | Gru | Transformer | OwnCode | None = None
    """`lstm`, `gru` and `transformer` remember. Or a network of your own in the place of all these:
    `module:Class` or `file.py:Class` (docs/extending.md)."""
    image_network: ImageOptions | None = None
    """For images; unless given `nature` from 36 pixels on, `small` below."""
    embedding: Annotated[int, at_least(1)] = 32
    """Numbers for each word of a text, and for each category of a part with many."""
    text_features: Annotated[int, at_least(1)] = 64
    """Numbers that a text becomes: the last state of a GRU over it."""
    modulate: bool = False
    """Let texts and numbers scale and shift the channels of images (FiLM, Perez 2018)."""
    flatten: bool = False
    """Join images and categories to the vector of all numbers instead."""
    critic_only: tuple[str, ...] = ()
    """Parts of a Dict observation that the critic alone sees ("privileged", asymmetric actor-critic). The
    actor needs them neither in training nor later: to act, leave them out."""

    @property
    def own_network(self) -> OwnCode | None:
        """The user's own network, if there is one."""
        return self.network if isinstance(self.network, OwnCode) else None

    @property
    def memory(self) -> Lstm | Gru | Transformer | None:
        """What remembers, if anything does."""
        return None if isinstance(self.network, OwnCode) else self.network
