"""Before any test: JAX on the CPU, shapes and types checked, and the same examples in every run."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping

# Under pytest alone: every call in core is checked, shapes included. Core must not be imported before.
jaxtyping.install_import_hook("proximo.core", "beartype.beartype")

from hypothesis import settings  # noqa: E402

settings.register_profile("proximo", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("proximo")
