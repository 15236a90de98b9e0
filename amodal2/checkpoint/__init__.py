"""Reading and writing of weights.

``checkpointer`` is the one used in training and evaluation, ``load_report`` what it says about a
file, ``readers`` the file formats, ``official`` the recognition of official weights with
``mask2former``, ``c2f_seg`` and ``backbones`` for their names, ``export`` the writer of small
weight files.
"""

from amodal2.checkpoint.checkpointer import AmodalCheckpointer
from amodal2.checkpoint.export import export_weights, write_weights
from amodal2.checkpoint.load_report import LoadReport
from amodal2.checkpoint.mask2former import upgrade_mask2former_keys
from amodal2.checkpoint.official import OfficialWeights, translate_official
from amodal2.checkpoint.readers import read_code_dictionary, read_weights

__all__ = [
    "AmodalCheckpointer",
    "LoadReport",
    "OfficialWeights",
    "export_weights",
    "read_code_dictionary",
    "read_weights",
    "translate_official",
    "upgrade_mask2former_keys",
    "write_weights",
]
