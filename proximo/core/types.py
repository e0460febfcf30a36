"""What flows between the parts: experience, and the kinds of action a policy can take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

VECTOR = "vector"  # the part of an observation that joins all of its numbers; images stand beside it
LEGAL = "legal"  # the part that tells which actions may be next, bool [..., M]; no network sees it
MOST_CHANNELS = 4  # of an image whose channels come first: a stack of frames, or red, green, blue, alpha


def vector_of(obs: Any) -> Any:
    """The numbers of an observation, [..., size]: all of it where it has no named parts."""
    return obs[VECTOR] if isinstance(obs, dict) else obs


class Experience(NamedTuple):
    """What N environments went through over T steps, time first; trees of arrays, mapped as one.

    The stream of observations is the truth: `obs[t + 1]` is the true successor of `obs[t]`, also at the
    end of an episode. The row after an end (the seam) leads from the last observation to the first of
    the next episode; nobody acted there, so its `mask` is 0 and it enters no loss, mean or count.
    Arrays of NumPy where it was collected, of JAX inside the update.

    obs         [T+1, N, ...]  what the policy saw, and the last successor: an array, or named parts
    action      [T, N, ...]    as sampled (before any clipping for the environment)
    reward      [T, N, R]      raw; stream 0 is the reward, the others are costs
    terminated  [T, N]         the state after the row has no future: its value is 0
    truncated   [T, N]         the episode was cut for another reason; its last state has a future
    over        [T, N]         the episode ended, for either reason. A lost life may be terminated, not over
    mask        [T, N]         1 for a transition, 0 for a seam or padding
    start       [T+1, N]       bool: the first observation of an episode, before which memory is forgotten
    carry       [N, ...]       the policy's memory before the first row; () without memory
    log_prob    [T, N]         of the actions under the policy that took them; None if that is the policy that
                               the update begins with
    final_obs   [T, N, ...]    for environments that reset inside the step that ends an episode: the
                               true successor in rows that are over, anything elsewhere. None where the
                               stream itself holds it.
    """

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    over: Any
    mask: Any
    start: Any
    carry: Any = ()
    log_prob: Any = None
    final_obs: Any = None


@dataclass(frozen=True)
class Picture:
    """A part of an observation: an image [height, width], with channels behind, or in front of these.

    dtype  what a network is given: "uint8" from 0 to 255, "bool", or "float32" from 0 to 1
    """

    shape: tuple[int, ...]
    dtype: str = "uint8"

    @property
    def channels_first(self) -> bool:
        """Whether the first axis is taken as the channels': where it is small, or before a larger square."""
        if len(self.shape) == 2:
            return False
        first, second, last = self.shape
        return first <= MOST_CHANNELS < min(second, last) or (second == last and 2 * first <= last)

    @property
    def order_is_clear(self) -> bool:
        """Whether the shape tells where the channels are.

        It does where one end is small and the other axes are not, and where channels are behind a square that
        is not as small as channels are. Squares of bools are boards, of any size.
        """
        if len(self.shape) == 2 or self.channels_first:
            return True
        first, second, last = self.shape
        small = last <= MOST_CHANNELS < min(first, second) or 2 * last <= min(first, second)
        square = first == second and (first > min(last, MOST_CHANNELS) or self.dtype == "bool")
        return small or square


@dataclass(frozen=True)
class Choices:
    """A part of an observation: categories, int32 [K], component k of `sizes[k]`, counted from 0."""

    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """A part of an observation: a text, int32 [length], of `vocabulary` symbols; 0 is behind its end."""

    length: int
    vocabulary: int


@dataclass(frozen=True)
class Words:
    """A part of an observation: a text, int32 [length], 20 bits for each word; 0 is behind its end."""

    length: int
    vocabulary: ClassVar[int] = 2**20


PartKind = Picture | Choices | Tokens | Words


@dataclass(frozen=True)
class Seen:
    """What a network sees of observations.

    numbers  how many of their vector's
    parts    name -> what each part is that stands beside the vector
    """

    numbers: int = 0
    parts: Mapping[str, PartKind] = field(default_factory=dict)


@dataclass(frozen=True)
class Categories:
    """One choice among `sizes[k]` for each component k; the action is an int32 [..., len(sizes)].

    `scalar` drops the last axis: the action of a single choice is an int32 [...].
    """

    sizes: tuple[int, ...]
    scalar: bool = False


@dataclass(frozen=True)
class Continuous:
    """A vector of `size` real numbers; the action is a float32 [..., size]."""

    size: int


@dataclass(frozen=True)
class Binary:
    """`size` independent switches; the action is an int32 [..., size] of zeros and ones."""

    size: int


@dataclass(frozen=True)
class Combinations:
    """Choices as of `Categories` of which each may depend on the others; the action is an int32 [..., K].

    What may be chosen is a mask of all combinations, of shape `sizes`.
    """

    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """Several kinds side by side, by name; the action is a dict of theirs."""

    names: tuple[str, ...]
    parts: "tuple[ActionKind, ...]"


ActionKind = Categories | Combinations | Continuous | Binary | Parts
