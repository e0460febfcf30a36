"""Modules that the user names."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


def user_module(name: str) -> ModuleType:
    """Import a module by the user's own word; it may lie in the working folder, as for `python -m`.

    This runs the module's code, so the name must never come from a file. Raises whatever that code raises.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)
