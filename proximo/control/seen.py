"""What a policy sees of its environment: the codec of its observations."""

from typing import Any

from gymnasium import Space

from proximo.core.types import Picture
from proximo.envs import ObservationCodec
from proximo.envs.parts import acting_codec, codec_for, without
from proximo.errors import UserError
from proximo.policies import NetworkOptions, Policy, takes_parts


def codec_asked(options: NetworkOptions, spaces: tuple[Space, Space]) -> ObservationCodec:
    """The codec of the policy that options ask for. `spaces` are of observations and of actions."""
    return codec_for(spaces, takes_parts(options), options.flatten, options.critic_only)


def require_image(options: NetworkOptions, codec: ObservationCodec) -> None:
    """Raises UserError for an option of images where the networks see none."""
    given = {"--image-network": options.image_network is not None, "--modulate": options.modulate}
    seen = any(isinstance(part.kind, Picture) for part in codec.parts.values())
    for option, asked in given.items():
        if asked and not seen and options.own_network is None:
            if options.flatten:
                raise UserError(f"{option} is for images, and --flatten leaves none: give one of the two")
            raise UserError(
                f"{option} is for images, and the observation has none: leave it out, or declare a Box of "
                "np.uint8 with 2 or 3 axes, or of floats from 0 to 1 with 3"
            )


def codec_of(policy: Policy, spaces: tuple[Space, Space]) -> ObservationCodec:
    """The codec of a policy that is there."""
    options: Any = getattr(policy, "options", None)
    if isinstance(options, NetworkOptions):
        return codec_for(spaces, policy.in_parts, options.flatten, options.critic_only)
    return codec_for(spaces, policy.in_parts)


def acting_codec_of(policy: Policy, spaces: tuple[Space, Space]) -> ObservationCodec:
    """The codec of a policy that acts and does not learn: what its critic alone sees need not be there."""
    codec, unseen = codec_of(policy, spaces), critic_only(policy)
    if not unseen:
        return codec
    options: Any = policy.options  # type: ignore[attr-defined]
    return acting_codec(
        codec, codec_for((without(spaces[0], unseen), spaces[1]), policy.in_parts, options.flatten)
    )


def critic_only(policy: Policy) -> tuple[str, ...]:
    """The parts of an observation that only the policy's critic sees."""
    options: Any = getattr(policy, "options", None)
    return options.critic_only if isinstance(options, NetworkOptions) else ()
