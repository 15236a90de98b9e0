"""The optional libraries of Diffusion-VAS, and whether they are recent enough."""

from __future__ import annotations

from amodal2.utils.errors import MissingDependencyError
from amodal2.utils.optional import require

EXTRA = "diffusion"
"""The pip extra that brings them."""

MINIMUM = {"diffusers": (0, 42), "transformers": (5, 0), "accelerate": (1, 0)}
"""Oldest releases (major, minor) whose names of layers and arguments are the ones used here."""


def require_libraries() -> None:
    """Check that diffusers, transformers and accelerate are there and recent enough.

    The modules ``unet`` and ``pipeline`` of this package import diffusers when they are imported;
    whoever imports them calls this first.

    Raises:
        MissingDependencyError: naming the library, its version and the extra.
    """
    for name, minimum in MINIMUM.items():
        version = str(require(name, EXTRA).__version__)
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers < minimum:
            raise MissingDependencyError(
                f"require_libraries: expected {name} {'.'.join(map(str, minimum))} or later, got "
                f"{version}; pip install -U 'amodal2[{EXTRA}]'",
                name=name,
            )
