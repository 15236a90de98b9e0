"""Reading and writing of weights.

``checkpointer`` is the one used in training and evaluation, ``readers`` the file formats,
``mask2former`` the renaming of official Mask2Former keys, ``export`` the writer of small weight
files.
"""

from amodal2.checkpoint.checkpointer import AmodalCheckpointer, LoadReport
from amodal2.checkpoint.export import export_weights
from amodal2.checkpoint.mask2former import upgrade_mask2former_keys
from amodal2.checkpoint.readers import read_weights

__all__ = [
    "AmodalCheckpointer",
    "LoadReport",
    "export_weights",
    "read_weights",
    "upgrade_mask2former_keys",
]
