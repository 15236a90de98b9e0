"""Baselines of A2VIS on the same frame detector; each predicts one kind of mask.

| paper | file | class | parameter prefixes |
|---|---|---|---|
| VITA | vita.py | VITA | vita_module, vita_criterion |
| GenVIS | genvis.py | GenVIS | vita_module, genvis_criterion |
| MinVIS | minvis.py | MinVIS | sem_seg_head alone |
| Mask2Former-VIS | mask2former_vis.py | Mask2FormerVIS | sem_seg_head alone |
| A2VIS Sec. 4.3, -Amodal versions | base.py | Baseline | MODEL.BASELINES.MASKS amodal |
"""

from amodal2.modeling.baselines.genvis import GenVIS
from amodal2.modeling.baselines.mask2former_vis import Mask2FormerVIS
from amodal2.modeling.baselines.minvis import MinVIS
from amodal2.modeling.baselines.vita import VITA

__all__ = ["VITA", "GenVIS", "Mask2FormerVIS", "MinVIS"]
