"""Keys of the baselines: VITA, GenVIS, MinVIS and Mask2Former-VIS."""

from detectron2.config import CfgNode


def add_baselines_config(cfg: CfgNode) -> None:
    """Add ``MODEL.BASELINES``, ``MODEL.GENVIS``, ``MODEL.MINVIS`` and ``MODEL.MASK2FORMER_VIS``.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.BASELINES = CfgNode()
    node = cfg.MODEL.BASELINES
    # The one kind of mask that the model learns and predicts: "visible", or "amodal" for the
    # -Amodal versions (A2VIS Sec. 4.3), whose amodal masks take the place of the visible ones at
    # frame and video level.
    node.MASKS = "visible"
    # "frame" trains the frame detector on single frames, "video" the whole model. MinVIS learns
    # from single frames in both cases.
    node.TRAIN_LEVEL = "video"
    # True keeps backbone, pixel decoder and mask decoder fixed at video level (GenVIS). False
    # trains them with the frame detector's losses (VITA). MinVIS and Mask2Former-VIS are all
    # detector and train it always.
    node.FREEZE_DETECTOR = False

    cfg.MODEL.GENVIS = CfgNode()
    # True never gives the slot of an object to another one. False follows the official code: a
    # newcomer may take the slot of an object that is hidden in the clip.
    cfg.MODEL.GENVIS.EXCLUDE_HIDDEN = True
    # Clips that the memory of every slot holds, the latest ones; 0 holds all (official).
    cfg.MODEL.GENVIS.MEMORY_CAP = 0

    cfg.MODEL.MINVIS = CfgNode()
    # Frames that run at once in tests; no effect on the results.
    cfg.MODEL.MINVIS.TEST_WINDOW = 30
    # Weight of a frame's class logits relative to the next frame's, in (0, 1]. 1 averages over all
    # frames (official); below 1 the scores follow the latest frames.
    cfg.MODEL.MINVIS.SCORE_DECAY = 1.0

    cfg.MODEL.MASK2FORMER_VIS = CfgNode()
    # Frames over which the queries attend at once in tests; 0 takes the whole video (official).
    # Windows are linked like the frames of MinVIS.
    cfg.MODEL.MASK2FORMER_VIS.TEST_WINDOW = 0
