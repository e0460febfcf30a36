"""A process that was forked after JAX's first use has none of JAX's threads, and would hang."""

import os
import sys

from proximo.errors import UserError


class Fork:
    """What a fork left behind. `dead`: JAX cannot be used in this process."""

    dead = False


def _in_the_child() -> None:
    # Read after the fact, so that nothing is started here; a version of JAX without it is taken at its word.
    bridge = sys.modules.get("jax._src.xla_bridge")
    Fork.dead = bool(getattr(bridge, "_backends", None))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)


def refuse_after_fork() -> None:
    """Raises UserError in a process in which the first computation would hang."""
    if Fork.dead:
        raise UserError(
            "this process was forked from one that had used JAX, and would hang, because a fork copies no "
            "threads: start it with multiprocessing.get_context('spawn') or 'forkserver'"
        )
