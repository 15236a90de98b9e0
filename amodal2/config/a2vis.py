"""Keys of A2VIS; where the paper leaves a choice open the comment names the other readings."""

from detectron2.config import CfgNode


def add_a2vis_config(cfg: CfgNode) -> None:
    """Add ``MODEL.A2VIS`` keys.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.A2VIS = CfgNode()
    node = cfg.MODEL.A2VIS
    # "frame" trains the frame detector on visible masks of single frames, "video" the whole system
    # (Sec. 4.2).
    node.TRAIN_LEVEL = "video"
    # True keeps backbone, pixel decoder and mask decoder fixed at video level.
    node.FREEZE_DETECTOR = True
    # True adds the frame detector's own losses at video level; needs FREEZE_DETECTOR False.
    node.DETECTOR_LOSS = False
    # How the modules that A2VIS adds to VITA begin where the weights hold VITA without them:
    # "random" or "vita" (repeating VITA, amodal2/modeling/a2vis/vita_start.py; not in the paper).
    node.START = "random"
    # What clip k+1 starts from: "samh" carries SAMH's output (Algorithm 1), "update" the updated
    # prototypes.
    node.CARRY = "samh"
    # Gradients are cut between clips every so many clips; 0 never cuts.
    node.DETACH_EVERY = 0
    # Assignment of slots to objects: "video" matches once per sample (Eq. 3), "clip" fixes each
    # object's slot in the first clip where it is visible (GenVIS's unified video label assignment,
    # never taking an assigned slot).
    node.MATCH = "video"
    # Adds VITA's class and mask losses on the visible masks, averaged over the clips (not in the
    # paper; a substitute for starting from VITA's weights). Its similarity loss is left out: the
    # layers of that loss (vita_module.sim_embed_*) are kept in the weights and not run.
    node.AUX_CLIP_LOSS = False
    # Weight of a class loss on the prototypes after each clip, unseen objects being "no object"; 0
    # is off.
    node.CLIP_CLASS_WEIGHT = 0.0
    _add_update_config(node)
    _add_samh_config(node)
    _add_loss_config(node)


def _add_update_config(node: CfgNode) -> None:
    node.UPDATE = CfgNode()
    # Axis of the attention of Eq. 2: "local" (over the clip's prototypes), "global" (over the
    # slots), "none".
    node.UPDATE.SOFTMAX_AXIS = "local"
    # True normalises after the residual of Eq. 2; needed with CARRY "update".
    node.UPDATE.NORM = True
    # First global prototypes: "learned", "first_clip" (those of clip 1) or "zeros".
    node.UPDATE.INIT = "learned"
    # True adds a learned key with a zero value, so that a slot whose object is absent can stay as
    # it is.
    node.UPDATE.NULL_TOKEN = False


def _add_samh_config(node: CfgNode) -> None:
    node.SAMH = CfgNode()
    # False removes the amodal head: visible output only (Table 8).
    node.SAMH.ENABLED = True
    # Visible spatiotemporal prior mask (Table 4).
    node.SAMH.USE_VSPM = True
    # Amodal spatiotemporal prior mask (Table 4).
    node.SAMH.USE_ASPM = True
    # L, layers of masked cross-attention and self-attention (Table 6).
    node.SAMH.NUM_LAYERS = 2
    # 3x3 convolutions of the amodal feature extraction, even (Table 7).
    node.SAMH.NUM_CONVS = 4
    # Normalisation between these convolutions: "" or "GN".
    node.SAMH.NORM = ""
    # True adds the clip features to both outputs of the convolutions, as adapters do elsewhere; the
    # paper describes a plain sequence.
    node.SAMH.RESIDUAL = False
    # True adds a 3-D sine code to the keys and global_query_embed to the queries.
    node.SAMH.POS_ENC = True
    # Stride of the attention keys: 4 (mask resolution), 8 or 16 (average pooled).
    node.SAMH.ATTN_STRIDE = 4
    # True adds a 3-D sine code to the clip features before the convolutions.
    node.SAMH.FEAT_POS = False
    # True uses one layer's weights for all L steps.
    node.SAMH.SHARE_LAYERS = False
    # Hidden width of a feed-forward block after each layer; 0 has none (Algorithm 1).
    node.SAMH.FFN_DIM = 0


def _add_loss_config(node: CfgNode) -> None:
    node.LOSS = CfgNode()
    # Weight of the class term in loss and matching.
    node.LOSS.CLASS_WEIGHT = 2.0
    # Weight of the visible mask cross entropy in loss and matching.
    node.LOSS.MASK_WEIGHT = 5.0
    # Weight of the dice terms (visible and amodal) in loss and matching; 0 is the literal reading
    # of Eq. 3.
    node.LOSS.DICE_WEIGHT = 5.0
    # Weight of the amodal mask cross entropy in loss and matching.
    node.LOSS.AMODAL_WEIGHT = 5.0
    # True supervises the amodal masks before every SAMH layer too.
    node.LOSS.DEEP_SUPERVISION = True
