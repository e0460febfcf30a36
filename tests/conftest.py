"""Before any test: JAX on the CPU, shapes and types checked, and the same examples in every run."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping  # noqa: E402

# Under pytest alone: every annotated call in these packages is checked, shapes included. They must not
# have been imported before this line.
jaxtyping.install_import_hook(
    ["proximo.core", "proximo.learn", "proximo.policies"],
    "beartype.beartype",
)

from hypothesis import settings  # noqa: E402

settings.register_profile("proximo", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("proximo")
