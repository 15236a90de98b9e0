"""Complete the masks of a whole video, window by window, with any completer.

Memory holds the frames, flow and masks of one window; masks of other frames are run lengths.
Letters: K samples, N objects, T frames of a window, H W frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from amodal2.modeling.completion.base import DEPTH, FLOW, FRAMES, Completer, ObjectClip
from amodal2.modeling.completion.crops import (
    crop_patches,
    crop_windows,
    mean_motion,
    paste_patches,
)
from amodal2.modeling.completion.frame_window import DepthSource, FrameWindow, WindowReader
from amodal2.structures.crop_window import visible_windows
from amodal2.structures.rle import RLE, decode_rle, encode_masks, rle_area
from amodal2.structures.track import MaskTube, Track, VideoPrediction
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.logging import get_logger
from amodal2.utils.optical_flow import OpticalFlow

COMPOSITIONS = ("visible", "others", "raw")

logger = get_logger(__name__)

ContentSink = Callable[[int, int, np.ndarray], object]
"""Takes track id, frame and uint8 RGBA [H, W, 4]: the frame where the object is visible, what the
completer has painted where it is hidden, and its amodal mask as alpha (0 and 255)."""

Boxes = Mapping[int, Sequence[Sequence[float] | None]]
"""By track id, x, y, w, h in pixels of every frame, or None."""


@dataclass(frozen=True)
class CompletionSettings:
    """How a video is completed.

    Attributes:
        compose (str): what becomes of the predicted mask: "visible" adds the visible mask, "others"
            takes the prediction inside other objects' visible masks and the visible mask elsewhere
            (SaVos's evaluation), "raw" leaves it as it is.
        threshold (float | None): probability from which a pixel counts; None is the completer's.
        objects_at_once (int): objects that a completer with patches of one size sees together.
        device (str): where the completer runs.
    """

    compose: str = "visible"
    threshold: float | None = None
    objects_at_once: int = 8
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.compose not in COMPOSITIONS or self.objects_at_once < 1:
            raise ValueError(
                f"CompletionSettings: expected compose of {COMPOSITIONS} and objects_at_once >= 1, "
                f"got {self}"
            )


def complete_video(
    completer: Completer,
    source: FrameSource,
    tracks: Sequence[Track],
    settings: CompletionSettings | None = None,
    *,
    flow: OpticalFlow | None = None,
    depth: DepthSource | None = None,
    on_frame: Callable[[], object] | None = None,
    on_content: ContentSink | None = None,
    only: Collection[int] | None = None,
    boxes: Boxes | None = None,
) -> list[VideoPrediction]:
    """Complete the masks of all objects of a video.

    An object's amodal mask is None before its first visible frame (A2VIS, Sec. 3.1), where the
    completer finds nothing, and in windows of the completer without a visible pixel of it. An
    object that is never visible keeps a track without masks, and a warning counts them.

    Args:
        completer (Completer): the method.
        source (FrameSource): the video, read once in order.
        tracks (Sequence[Track]): visible masks, one per frame; their ids, categories and scores are
            kept.
        settings (CompletionSettings | None): None takes the defaults.
        flow (OpticalFlow | None): for completers that need it.
        depth (DepthSource | None): for completers that need it.
        on_frame (Callable | None): called after every frame, to show progress.
        only (Collection[int] | None): ids of the tracks that are completed and returned; the others
            still hide them. None takes all.
        on_content (Callable | None): takes what a completer paints, for the first sample, frame by
            frame of an object; frames without an amodal mask are left out.
        boxes (Mapping | None): for completers whose crop rule follows them.

    Returns:
        list[VideoPrediction]: K samples with visible and amodal masks, video id 1.

    Raises:
        ValueError: if the masks do not have the size or number of the frames, tracks have no
            visible masks, something that the completer needs is missing, or its result is
            unusable.
        VideoError: if a frame cannot be read.
    """
    settings = settings or CompletionSettings()
    _check(completer, source, tracks, flow, depth, boxes)
    tracks = [replace(track, visible=_without_empty(track.visible or [])) for track in tracks]
    length = len(tracks[0].visible or ()) if tracks else sum(1 for _ in source)
    size = (source.height, source.width)
    job = _Job(completer, tracks, settings, size, length, on_content, only, boxes)
    reader = WindowReader(source, length, completer.needs, flow, depth, on_frame)
    for start, stop, keep in split_windows(length, completer.window, completer.overlap):
        job.run(reader.read(start, stop), keep)
    reader.finish()
    never = [track.id for track in tracks if not any(track.visible or ())]
    if never:
        logger.warning("complete_video: %d objects are never visible: %s", len(never), never[:20])
    return job.predictions()


def split_windows(length: int, window: int, overlap: int) -> Iterator[tuple[int, int, range]]:
    """Cut a video into windows.

    Args:
        length: T of the video.
        window: frames per window, above the overlap.
        overlap: frames that neighbours share.

    Yields:
        tuple: first frame, one past the last one, and the frames whose results count; together
        these are all frames, each once.
    """
    kept, start = 0, 0
    while kept < length:
        stop = min(start + window, length)
        end = stop if stop == length else stop - overlap // 2
        yield start, stop, range(kept, end)
        kept, start = end, stop - overlap


class _Job:
    """Collects the results of the windows of one video."""

    def __init__(
        self,
        completer: Completer,
        tracks: Sequence[Track],
        settings: CompletionSettings,
        size: tuple[int, int],
        length: int,
        on_content: ContentSink | None,
        only: Collection[int] | None,
        boxes: Boxes | None,
    ) -> None:
        self.boxes = boxes or {}
        self.completer, self.tracks, self.settings = completer, tracks, settings
        self.wanted = [only is None or track.id in only for track in tracks]
        self.size, self.length, self.on_content = size, length, on_content
        own = completer.threshold if settings.threshold is None else settings.threshold
        self.threshold = own
        self.tubes: list[list[MaskTube]] = []  # of each sample and track
        self.seen = [
            next((t for t, rle in enumerate(track.visible or ()) if rle), length)
            for track in tracks
        ]

    def predictions(self) -> list[VideoPrediction]:
        """Return one prediction per sample; one without masks if no object was ever visible."""
        tubes = self.tubes or [[[None] * self.length for _ in self.tracks]]
        return [
            VideoPrediction(
                1,
                *self.size,
                self.length,
                [
                    replace(track, amodal=tube)
                    for track, tube, wanted in zip(self.tracks, sample, self.wanted, strict=True)
                    if wanted
                ],
            )
            for sample in tubes
        ]

    def run(self, window: FrameWindow, keep: range) -> None:
        """Complete the objects that are visible in a window."""
        frames = range(window.start, window.start + window.length)
        masks = {
            number: self._decode(track, frames)
            for number, track in enumerate(self.tracks)
            if any((track.visible or ())[t] for t in frames)
        }
        covered = np.zeros((window.length, *self.size), np.int16)
        for mask in masks.values():
            covered += mask
        numbers, front = [n for n in masks if self.wanted[n]], self._fronts(masks)
        step = self.settings.objects_at_once if self.completer.rule.size else 1
        for first in range(0, len(numbers), step):
            chunk = numbers[first : first + step]
            clips = [
                self._cut(window, n, masks[n], front.get(n, covered - masks[n] > 0)) for n in chunk
            ]
            clip = _stack(clips)
            with torch.inference_mode():
                found = self.completer.complete(clip)
            found.check(clip, type(self.completer).__name__)
            amodal = found.amodal.float().cpu()
            for place, number in enumerate(chunk):
                others = covered - masks[number] > 0
                for sample in range(amodal.shape[0]):
                    pasted = self._paste(amodal[sample, place], clip.windows[place].cpu())
                    self._keep(sample, number, pasted, masks[number], others, window.start, keep)
                if found.content is not None and self.on_content is not None:
                    painted = found.content[0, place].float().cpu()
                    self._paint(window, number, painted, clip.windows[place].cpu(), keep)

    def _paint(
        self, window: FrameWindow, number: int, content: Tensor, windows: Tensor, keep: range
    ) -> None:
        """Hand on an object's painted frames; ``content`` is [T, 3, h, w]."""
        assert self.on_content is not None, "checked by the caller"
        assert window.frames is not None, "completers that paint ask for the frames"
        track = self.tracks[number]
        for t in keep:
            amodal = self.tubes[0][number][t]
            if amodal is None:
                continue
            at, visible = t - window.start, (track.visible or ())[t]
            patch = torch.cat([content[at], torch.ones_like(content[at, :1])])[None]
            pasted = paste_patches(patch, windows[at : at + 1], self.size)[0]
            # Beyond the centres of the outer patch pixels they count in part.
            colour = (pasted[:3] / pasted[3:].clamp(min=1e-6)).clamp(0, 1)
            image = (255 * colour).round().byte().permute(1, 2, 0).numpy()
            if visible is not None:
                own = window.frames[at].permute(1, 2, 0).numpy()
                image = np.where(decode_rle(visible)[..., None], own, image)
            alpha = 255 * decode_rle(amodal).astype(np.uint8)
            self.on_content(track.id, t, np.dstack([image, alpha]))

    def _fronts(self, masks: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Return what lies in front of each object, if the completer has an opinion."""
        fronts: dict[int, np.ndarray] = {}
        for t in range(len(next(iter(masks.values()), ()))):
            seen = [number for number, mask in masks.items() if mask[t].any()]
            stack = np.stack([masks[number][t] for number in seen]) if seen else None
            order = None if stack is None else self.completer.in_front(stack)
            if stack is None or order is None:
                continue
            for row, number in enumerate(seen):
                union = fronts.setdefault(number, np.zeros_like(masks[number]))
                union[t] = stack[order[row]].any(axis=0)
        return fronts

    def _decode(self, track: Track, frames: range) -> np.ndarray:
        masks = np.zeros((len(frames), *self.size), dtype=bool)
        for place, t in enumerate(frames):
            rle = (track.visible or ())[t]
            if rle is not None:
                masks[place] = decode_rle(rle)
        return masks

    def _cut(
        self, window: FrameWindow, number: int, visible: np.ndarray, others: np.ndarray
    ) -> ObjectClip:
        """Cut one object out of a window of the video."""
        rule, motion = self.completer.rule, None
        if rule.follow == "motion":
            assert window.forward is not None, "the constructor has checked that there is flow"
            mean = mean_motion(window.forward, torch.from_numpy(visible))
            motion = mean.flip(1).double().numpy()
        areas = visible.sum(axis=(1, 2), dtype=np.float64)
        if rule.follow == "boxes":
            given = self.boxes[self.tracks[number].id]
            boxes = _as_windows(given)[window.start : window.start + window.length]
            boxes = boxes if np.isfinite(boxes).any() else visible_windows(visible)
        else:
            boxes = visible_windows(visible)
        places = crop_windows(boxes, rule, self.size, motion=motion, areas=areas)
        windows = torch.from_numpy(places).float()
        cut = _Cutter(windows, rule.size, self.settings.device)
        return ObjectClip(
            visible=cut.masks(torch.from_numpy(visible)),
            others=cut.masks(torch.from_numpy(others)),
            windows=windows[None].to(self.settings.device),
            frames=cut.images(window.frames, 1 / 255) if FRAMES in self.completer.needs else None,
            forward_flow=cut.flow(window.forward),
            backward_flow=cut.flow(window.backward),
            depth=cut.depth(window.depth),
        )

    def _paste(self, amodal: Tensor, windows: Tensor) -> np.ndarray:
        """Return the pixels of one object that reach the threshold (bool [T, H, W])."""
        if self.completer.rule.size is None:
            top, left, bottom, right = windows[0].int().tolist()
            found = np.zeros((len(amodal), *self.size), dtype=bool)
            found[:, top:bottom, left:right] = (amodal >= self.threshold).numpy()
            return found
        full = torch.cat(
            [
                paste_patches(a[None, None], w[None], self.size)
                for a, w in zip(amodal, windows, strict=True)
            ]
        )
        return (full[:, 0] >= self.threshold).numpy()

    def _keep(
        self,
        sample: int,
        number: int,
        found: np.ndarray,
        visible: np.ndarray,
        others: np.ndarray,
        start: int,
        keep: range,
    ) -> None:
        """Compose, encode and store the frames that count."""
        if self.settings.compose == "visible":
            found = found | visible
        elif self.settings.compose == "others":
            found = np.where(others, found, visible)
        while sample >= len(self.tubes):
            self.tubes.append([[None] * self.length for _ in self.tracks])
        chosen = [t for t in keep if t >= self.seen[number]]
        places = [t - start for t in chosen if found[t - start].any()]
        rles: list[RLE] = encode_masks(found[places]) if places else []
        for place, rle in zip(places, rles, strict=True):
            self.tubes[sample][number][place + start] = rle


class _Cutter:
    """Cuts what belongs to one object out of T frames."""

    def __init__(self, windows: Tensor, size: tuple[int, int] | None, device: str) -> None:
        self.windows, self.size, self.device = windows, size, device

    def images(self, images: Tensor | None, factor: float = 1.0) -> Tensor | None:
        """Cut float images out (Tensor[1, T, C, h, w])."""
        if images is None:
            return None
        if self.size is None:
            top, left, bottom, right = self.windows[0].int().tolist()
            part = images[..., top:bottom, left:right].float()
        else:
            pairs = zip(images, self.windows, strict=True)
            part = torch.cat(
                [crop_patches(image[None].float(), w[None], self.size) for image, w in pairs]
            )
        return (part * factor)[None].to(self.device)

    def masks(self, masks: Tensor) -> Tensor:
        """Cut masks out (bool Tensor[1, T, h, w])."""
        cut = self.images(masks[:, None])
        assert cut is not None, "there are masks"
        return cut[:, :, 0] >= 0.5

    def flow(self, flow: Tensor | None) -> Tensor | None:
        """Cut flow out, in pixels of the patches."""
        cut = self.images(flow)
        if cut is None or self.size is None:
            return cut
        sides = self.windows[:, 2:] - self.windows[:, :2]
        scale = torch.tensor(self.size) / sides.clamp(min=1)  # rows, columns
        return cut * scale.flip(1)[None, :, :, None, None].to(cut)

    def depth(self, depth: Tensor | None) -> Tensor | None:
        """Cut depth out (Tensor[1, T, h, w])."""
        cut = self.images(None if depth is None else depth[:, None])
        return None if cut is None else cut[:, :, 0]


def _stack(clips: list[ObjectClip]) -> ObjectClip:
    """Join clips of one object each."""

    def joined(name: str) -> Tensor | None:
        parts = [getattr(clip, name) for clip in clips]
        return None if parts[0] is None else torch.cat(parts)

    return ObjectClip(
        visible=torch.cat([clip.visible for clip in clips]),
        others=torch.cat([clip.others for clip in clips]),
        windows=torch.cat([clip.windows for clip in clips]),
        frames=joined("frames"),
        forward_flow=joined("forward_flow"),
        backward_flow=joined("backward_flow"),
        depth=joined("depth"),
    )


def _as_windows(boxes: Sequence[Sequence[float] | None]) -> np.ndarray:
    """Return given boxes as (top, left, bottom, right), NaN where there is none."""
    windows = np.full((len(boxes), 4), np.nan)
    for t, box in enumerate(boxes):
        if box is not None:
            x, y, width, height = box
            windows[t] = y, x, y + height, x + width
    return windows


def _without_empty(tube: MaskTube) -> MaskTube:
    """Put None in place of masks without pixels."""
    return [rle if rle is not None and rle_area(rle) else None for rle in tube]


def _check(
    completer: Completer,
    source: FrameSource,
    tracks: Sequence[Track],
    flow: OpticalFlow | None,
    depth: DepthSource | None,
    boxes: Boxes | None,
) -> None:
    """Check what can be checked before the first frame."""
    if completer.rule.follow == "boxes":
        _check_boxes(tracks, boxes or {})
    for need, given in ((FLOW, flow), (DEPTH, depth)):
        if need in completer.needs and given is None:
            raise ValueError(
                f"complete_video: expected {need} for {type(completer).__name__}, got none"
            )
    lengths = {len(track.visible) for track in tracks if track.visible is not None}
    if any(track.visible is None for track in tracks) or len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            "complete_video: expected visible masks for every frame of every track, got tracks of "
            f"{sorted(lengths)} frames"
        )
    size = [source.height, source.width]
    for track in tracks:
        for t, rle in enumerate(track.visible or ()):
            if rle is not None and list(rle["size"]) != size:
                raise ValueError(
                    f"complete_video: expected masks of {size[1]}x{size[0]} like the frames, got "
                    f"{rle['size'][1]}x{rle['size'][0]} in frame {t} of object {track.id}"
                )


def _check_boxes(tracks: Sequence[Track], boxes: Boxes) -> None:
    """Check the boxes of a completer that cuts objects out by them."""
    for track in tracks:
        given = boxes.get(track.id)
        if given is None or len(given) != len(track.visible or ()):
            raise ValueError(
                f"complete_video: expected a box or None for every frame of object {track.id}, got "
                f"{'no boxes' if given is None else f'{len(given)} of {len(track.visible or ())}'}"
            )
        for t, box in enumerate(given):
            if box is not None and not (
                len(box) == 4 and np.isfinite(box).all() and min(box[2:]) > 0
            ):
                raise ValueError(
                    "complete_video: expected boxes x, y, w, h of finite numbers with w, h > 0, "
                    f"got {list(box)} in frame {t} of object {track.id}"
                )
