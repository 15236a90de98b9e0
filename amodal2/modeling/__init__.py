"""Models; importing this package registers every meta-architecture and backbone."""

from amodal2.modeling import a2vis, backbone

__all__ = ["a2vis", "backbone"]
