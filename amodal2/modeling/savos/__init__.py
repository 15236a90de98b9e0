"""SaVos: self-supervised amodal video object segmentation (Yao et al., NeurIPS 2022).

Sec. 3.1 spatio-temporal embedding: ``embedding.py`` (``st_encoder``); mask completer:
``mask_completer.py`` (``mask_decoder``); motion predictor: ``motion_predictor.py``
(``flow_decoder``), all of the blocks of ``layers.py``; common fate, warp (Eq. 2) and alpha merge
(Eq. 8): ``network.py``. Sec. 3.2 losses: ``losses.py``. The released code's readings beside the
paper's: ``presets.py``. ``patches.py`` cuts out, ``model.py`` trains and completes.
"""

from amodal2.modeling.savos.model import SaVos
from amodal2.modeling.savos.network import SavosNetwork, TrackInput
from amodal2.modeling.savos.presets import PRESETS, SavosOptions

__all__ = ["PRESETS", "SaVos", "SavosNetwork", "SavosOptions", "TrackInput"]
