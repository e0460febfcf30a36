"""Optional libraries: imported when they are needed, named in an error when they are missing."""

import importlib
from typing import Any

from proximo.errors import UserError


def require_package(module: str, extra: str) -> Any:
    """The module, from an extra of this package. Raises UserError with the pip command if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UserError(
            f'this needs {name}, which is not installed: pip install "proximo[{extra}]"'
        ) from error
