"""What flows between the parts: a rollout of experience, and the kinds of action a policy can take."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Rollout(NamedTuple):
    """Experience of N environments over T steps, time first; sliced and mapped as one.

    The stream of observations is the truth: `obs[t + 1]` is the true successor of `obs[t]`, also at the
    end of an episode. The row after an end (the seam) leads from the last observation to the first of
    the next episode; nobody acted there, so its `mask` is 0 and it enters no loss, mean or count.
    Arrays of NumPy where it was collected, of JAX inside the update.

    obs         [T+1, N, ...]  what the policy saw, and the last successor
    action      [T, N, ...]    as sampled (before any clipping for the environment)
    reward      [T, N]         raw
    terminated  [T, N]         the episode ended in a state without a future
    truncated   [T, N]         the episode was cut for another reason; its last state has a future
    mask        [T, N]         1 for a transition, 0 for a seam or padding
    carry       [N, ...]       the policy's memory before the first row; () without memory
    final_obs   [T, N, ...]    for environments that reset inside the step that ends an episode: the
                               true successor in rows that ended, anything elsewhere. None where the
                               stream itself holds it.
    """

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    mask: Any
    carry: Any = ()
    final_obs: Any = None


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


ActionKind = Categories | Continuous | Binary
