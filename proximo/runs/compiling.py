"""Seconds that this process has spent on compilation, as JAX tells them: no measure of what comes after."""

import jax

EVENTS = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")


class _Clock:
    seconds = 0.0
    listening = False


def _add(event: str, duration_secs: float, **_: str | int) -> None:
    if event in EVENTS:
        _Clock.seconds += duration_secs


def compile_seconds() -> float:
    """So far, counted from the first call on."""
    if not _Clock.listening:
        _Clock.listening = True
        jax.monitoring.register_event_duration_secs_listener(_add)
    return _Clock.seconds
