"""Compiler options of language models."""

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax

R = TypeVar("R")

OPTIONS: dict[str, bool | str] = {"xla_cpu_use_fusion_emitters": False}
"""The CPU compiler's older way to write fused loops.

To compile one update of a GPT-2 of 4 layers takes 80 MB with it, 210 MB with the newer way (through MLIR),
and the program is as fast: small models spend most memory on being compiled. It says nothing to a GPU.
"""


class jit(Generic[R]):
    """`jax.jit` with the options above, as far as this compiler knows them.

    They are looked at when the function first runs, not when it is written down: asking the compiler starts
    the devices, and processes that join over a network must do that first.
    """

    def __init__(self, function: Callable[..., R], **options: Any) -> None:
        self.function, self.options = function, options
        functools.update_wrapper(self, function)

    @functools.cached_property
    def compiled(self) -> Any:
        return jax.jit(self.function, compiler_options=known(**OPTIONS), **self.options)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        result: R = self.compiled(*args, **kwargs)  # arrays may be NumPy's
        return result

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        return self.compiled.lower(*args, **kwargs)


@functools.cache
def known(**options: bool | str) -> dict[str, bool | str]:
    """The options, or none where the compiler refuses them: a later one may have dropped the older way."""
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
