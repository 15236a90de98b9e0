"""Reading pickles that others made, without running any code from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

_SAFE_GLOBALS = {
    ("_codecs", "encode"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "slice"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}

UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
)
"""What :func:`load_plain_pickle` raises on damaged files, other contents, or forbidden objects."""


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler that knows NumPy arrays and plain containers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global of the pickle stream.

        Args:
            module: dotted module name.
            name: attribute of the module.

        Returns:
            The object, if it is one of the harmless ones.

        Raises:
            UnpicklingError: for any other.
        """
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in _SAFE_GLOBALS:
            raise pickle.UnpicklingError(
                f"ArrayUnpickler: expected arrays and plain containers, got {module}.{name}"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of arrays and plain containers.

    Args:
        path: existing file; text of Python 2 is read as Latin-1.

    Returns:
        Any: what was pickled.

    Raises:
        UnpicklingError: or another of :data:`UNPICKLING_ERRORS`, if the file is damaged or holds
            more than plain data; nothing of it has been run.
    """
    with Path(path).open("rb") as file:
        return ArrayUnpickler(file, encoding="latin1").load()
