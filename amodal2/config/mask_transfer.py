"""Keys of mask transfer (Zhang, "Amodal Instance Segmentation")."""

from detectron2.config import CfgNode


def add_mask_transfer_config(cfg: CfgNode) -> None:
    """Add ``MODEL.MASK_TRANSFER``.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    cfg.MODEL.MASK_TRANSFER = CfgNode()
    _add_training_config(cfg)
    _add_inference_config(cfg)
    _add_stage_config(cfg)


def _add_training_config(cfg: CfgNode) -> None:
    node = cfg.MODEL.MASK_TRANSFER
    # File of tools/build_reference_bank.py; needed for inference, "" trains without.
    node.BANK = ""
    # Datasets whose complete objects are the references in training; () takes DATASETS.TRAIN.
    node.REFERENCES = ()
    # Least short side of a reference's box in image pixels.
    node.MIN_SIDE = 64
    # What is trained, any of "scale", "vote", "score" and "refine" (the network of REFINE "net");
    # the rest is fixed. The paper trains the scale first, then voting, then scores.
    node.TRAIN = ("scale", "vote", "score")
    # Short side of a whole object in rescaled patches, in pixels (the paper's L).
    node.L = 224
    # Longest side of a rescaled patch as a multiple of L; longer ones are scaled to it.
    node.MAX_SIDE = 4.0
    # Pixels of a patch per voting cell: 16 takes res4 of the backbone, 8 takes res3.
    node.STRIDE = 16
    # V, visual concepts per cell.
    node.NUM_CONCEPTS = 128
    # True divides the features of every cell by their norm before concepts are read.
    node.UNIT_FEATURES = True
    # Depth of ScaleNet's ResNet: 18, 34 or 50.
    node.SCALE_DEPTH = 18
    # True gives ScaleNet the detector's mask as fourth channel; False reads the paper literally.
    node.SCALE_MASK = True
    # Probability that a query of a training pair has its true scale instead of the predicted one.
    node.GT_SCALE = 0.0
    # Size of the filter w2 over the concepts' votes, odd.
    node.K2 = 3
    # True lets votes count that lay query and reference side by side (the paper's padding); False
    # asks for a common cell.
    node.VOTE_BORDER = True
    # Standard deviation of the target's peak as a share of the vote map's short side; at least one
    # cell. 0 makes the target one single cell.
    node.SIGMA = 0.05
    # "pair" divides the votes by the root of the product of both patches' norms, "ncc" by the
    # query's norm and the reference's norm under it, "none" leaves them alone.
    node.NORM = "pair"
    # Overlap of the masks at true scale, centres aligned, from which a pair is positive.
    node.TAU_POS = 0.75
    # Overlap up to which a pair is negative; pairs between the two are left out.
    node.TAU_NEG = 0.55
    # Weight of the vote loss in the loss of the score branch.
    node.EPS = 0.1


def _add_inference_config(cfg: CfgNode) -> None:
    node = cfg.MODEL.MASK_TRANSFER
    # Factor on the sides of the box that is cropped as a query.
    node.CONTEXT = 1.0
    # True fits a parabola to the peak of the votes; False takes the cell (paper).
    node.SUBPIXEL = False
    # References whose warped masks are averaged, weighted by the softmax of their scores; 1 takes
    # the best one (paper).
    node.TOPK = 1
    # What becomes of the transferred mask: "none" leaves it, "affine" moves and scales it to agree
    # with the visible mask, "net" corrects it by a network that sees the picture and all masks
    # around it (train it with "refine" in TRAIN), "affine_net" does both.
    node.REFINE = "none"
    # Channels of this network's finest level, a multiple of 4.
    node.REFINE_CHANNELS = 16
    # True cuts transferred masks at the box of the query; False lets them reach beyond.
    node.CLIP_TO_BOX = False
    # True keeps the visible mask and cuts what lies on neither another object nor near it.
    node.UNION_VISIBLE = False
    # UNION_VISIBLE: reach around the visible mask in image pixels.
    node.RING = 5
    # Weight of the overlap with the visible mask when the reference is chosen; 0 takes the score
    # alone (paper).
    node.RERANK = 0.0
    # Probability of the best reference below which the detector's mask is kept.
    node.MIN_SCORE = 0.0
    # Exponent of this probability as a factor of the detector's score; 0 leaves the score alone.
    node.RESCORE = 0.0
    # References of a class that are voted for, those whose mean concepts are most like the query's;
    # 0 takes all.
    node.SHORTLIST = 0
    # In videos (completer mask_transfer): True takes one reference for all frames of a track, by
    # the sum of its log-odds; False looks at every frame by itself.
    node.TRACK_VOTE = False
    # TRACK_VOTE: standard deviation in frames over which centres and scales are smoothed.
    node.TRACK_SMOOTH = 1.0


def _add_stage_config(cfg: CfgNode) -> None:
    node = cfg.MODEL.MASK_TRANSFER
    # As ROI heads: name of the ROI heads whose boxes and masks are completed.
    node.ROI_HEADS = "StandardROIHeads"
    # As ROI heads: checkpoint of MaskTransfer whose network is used. The detector's MODEL.WEIGHTS
    # have no network, and without one no bank fits.
    node.WEIGHTS = ""
    # As ROI heads: yaml file that this checkpoint was trained with; its backbone, patches and
    # concepts are used and the switches of inference are those here. "" takes all keys from here,
    # with a plain ResNet of MODEL.RESNETS as the backbone.
    node.CONFIG_FILE = ""
    # As ROI heads: True gives the detector's masks as visible masks, too. Right behind detectors of
    # visible objects (Mask R-CNN of COCO); needs GeneralizedRCNNAmodal, which pastes all kinds.
    node.KEEP_VISIBLE = False
    # As ROI heads: height and width of the masks in their boxes.
    node.MASK_SIZE = 112
