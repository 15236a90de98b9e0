"""Import of libraries that only some parts of the package need."""

from __future__ import annotations

import importlib
from types import ModuleType

from amodal2.utils.errors import MissingDependencyError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library, or say which pip extra brings it.

    Args:
        module (str): dotted name, e.g. ``"timm"``.
        extra (str): name of the extra in ``setup.py``.

    Returns:
        ModuleType: the imported module.

    Raises:
        MissingDependencyError: if the library (not one of its own imports) is absent.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or not (module == e.name or module.startswith(e.name + ".")):
            raise
        raise MissingDependencyError(
            f"require: expected module '{module}' to be installed, got no such module; "
            f"pip install 'amodal2[{extra}]'",
            name=module,
        ) from e
