"""What a policy sees of its environment: the codec of its observations."""

from typing import Any

from gymnasium import Space

from proximo.envs import ObservationCodec
from proximo.envs.parts import codec_for
from proximo.policies import NetworkOptions, Policy, takes_parts


def codec_asked(options: NetworkOptions, spaces: tuple[Space, Space]) -> ObservationCodec:
    """The codec of the policy that options ask for. `spaces` are of observations and of actions."""
    return codec_for(spaces, takes_parts(options), options.flatten)


def codec_of(policy: Policy, spaces: tuple[Space, Space]) -> ObservationCodec:
    """The codec of a policy that is there."""
    options: Any = getattr(policy, "options", None)
    if isinstance(options, NetworkOptions):
        return codec_for(spaces, policy.in_parts, options.flatten)
    return codec_for(spaces, policy.in_parts)
