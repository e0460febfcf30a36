"""The libraries that language models need and the rest of this package does not."""

from proximo.runs.extras import needed

LIBRARIES = ("tokenizers", "jinja2")


def need_libraries() -> None:
    """Raises UserError, with the pip command, where one is missing."""
    for library in LIBRARIES:
        needed(library, "language")
