"""Known outputs of a fixed frame detector as a part of samples."""

from __future__ import annotations

from detectron2.config import CfgNode

from amodal2.structures.detector_cache import DetectedFrames, DetectorCache


class LazyDetections:
    """The detector's outputs for one test video, read clip by clip."""

    def __init__(self, cache: DetectorCache, key: str) -> None:
        """Store where they are.

        Args:
            cache: the folder.
            key: of the video, see :func:`amodal2.structures.detector_cache.video_key`.
        """
        self.cache = cache
        self.key = key

    def clip(self, start: int, stop: int) -> DetectedFrames:
        """Read the frames [start, stop).

        Args:
            start: first frame, 0-based.
            stop: one past the last frame.

        Returns:
            DetectedFrames: float16, on the CPU.

        Raises:
            FileNotFoundError: if the video's outputs are not there.
        """
        return self.cache.read(self.key, range(start, stop))


def open_detections(cfg: CfgNode, *, is_train: bool) -> DetectorCache | None:
    """Open the folder that ``MODEL.MASK_FORMER.CACHE_DIR`` names.

    Args:
        cfg: configuration.
        is_train: check that the augmentation leaves the frames as the detector has seen them.

    Returns:
        DetectorCache | None: None if the key is empty.

    Raises:
        ValueError: if training frames are flipped, cropped, recoloured, moved or of several sizes.
    """
    folder = cfg.MODEL.MASK_FORMER.CACHE_DIR
    if not folder:
        return None
    wrong = _moving_keys(cfg) if is_train else []
    if wrong:
        raise ValueError(
            "open_detections: expected frames that are always the same with "
            f"MODEL.MASK_FORMER.CACHE_DIR, got {', '.join(wrong)}; set INPUT.RANDOM_FLIP none, "
            "INPUT.CROP.ENABLED False, INPUT.AMODAL.COLOR_JITTER 0.0, INPUT.AMODAL.PSEUDO.ENABLED "
            "False and one INPUT.MIN_SIZE_TRAIN with MIN_SIZE_TRAIN_SAMPLING choice, or empty "
            "CACHE_DIR"
        )
    return DetectorCache(folder)


def fixed_size(cfg: CfgNode, *, is_train: bool) -> tuple[int, int]:
    """Return the one size that frames get: shorter edge and limit of the longer one, in pixels.

    Args:
        cfg: configuration.
        is_train: of training samples, which :func:`open_detections` has accepted, or of tests.
    """
    node = cfg.INPUT
    if not is_train:
        return node.MIN_SIZE_TEST, node.MAX_SIZE_TEST
    short = node.MIN_SIZE_TRAIN
    return (short if isinstance(short, int) else (*short, 0)[0]), node.MAX_SIZE_TRAIN


def _moving_keys(cfg: CfgNode) -> list[str]:
    """Return the augmentation keys that change the frames from sample to sample."""
    node = cfg.INPUT
    sizes = [node.MIN_SIZE_TRAIN] if isinstance(node.MIN_SIZE_TRAIN, int) else node.MIN_SIZE_TRAIN
    found = {
        f"INPUT.RANDOM_FLIP {node.RANDOM_FLIP}": node.RANDOM_FLIP != "none",
        "INPUT.CROP.ENABLED True": node.CROP.ENABLED,
        f"INPUT.AMODAL.COLOR_JITTER {node.AMODAL.COLOR_JITTER}": node.AMODAL.COLOR_JITTER > 0,
        "INPUT.AMODAL.PSEUDO.ENABLED True": node.AMODAL.PSEUDO.ENABLED,
        f"INPUT.MIN_SIZE_TRAIN {tuple(sizes)} ({node.MIN_SIZE_TRAIN_SAMPLING})": len(set(sizes))
        > 1,
    }
    return [text for text, moving in found.items() if moving]
