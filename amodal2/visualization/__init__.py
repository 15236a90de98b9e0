"""Pictures of tracks: steady colours, overlay, panels."""

from amodal2.visualization.overlay import OverlayStyle, draw_overlay
from amodal2.visualization.palette import color_of
from amodal2.visualization.panels import side_by_side

__all__ = ["OverlayStyle", "color_of", "draw_overlay", "side_by_side"]
