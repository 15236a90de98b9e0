"""Part-based voting and mask transfer (Zhang, "Amodal Instance Segmentation").

There is no official code.

| paper | file | class or function |
|---|---|---|
| Sec. 3.1, ScaleNet | scale_net.py | ScaleNet |
| Sec. 3.2, visual concept layer f1 | visual_concepts.py | VisualConceptLayer |
| Sec. 3.2, voting layer f2, Fig. 4 | correlation.py, voting_branch.py | BankSpectra, VoteFilter |
| Sec. 3.3, score branch | score_branch.py | ScoreBranch |
| Sec. 3.4, transfer | transfer.py | transfer_masks |
| reference set | reference_bank.py | ReferenceBank |
| Sec. 4, feature transfer (future work), in part | refine_net.py | RefineNet |
| whole model | model.py, inference.py | MaskTransfer, MaskTransferrer |
| in videos | tracks.py, completer.py | complete_track, MaskTransferCompleter |
| behind a detector | roi_stage.py | TransferROIHeads |
"""

from amodal2.modeling.mask_transfer.completer import MaskTransferCompleter
from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.model import MaskTransfer
from amodal2.modeling.mask_transfer.options import TransferOptions
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.modeling.mask_transfer.roi_stage import TransferROIHeads

__all__ = [
    "MaskTransfer",
    "MaskTransferCompleter",
    "MaskTransferrer",
    "ReferenceBank",
    "TransferOptions",
    "TransferROIHeads",
]
