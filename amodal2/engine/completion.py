"""Completers for the command line: their options, and tracks in, tracks out."""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from amodal2.config import get_cfg
from amodal2.engine.adaptation import AdaptationSettings, VideoAdapter
from amodal2.engine.adaptation_lessons import Adaptable
from amodal2.model_zoo import load_model
from amodal2.modeling.completion import (
    COMPLETER_REGISTRY,
    Completer,
    CompletionSettings,
    build_completer,
    complete_video,
)
from amodal2.modeling.completion.video import COMPOSITIONS, Boxes, ContentSink
from amodal2.structures.track import MaskTube, Track, VideoPrediction
from amodal2.utils.depth import DepthSource
from amodal2.utils.device import available_device
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.optical_flow import OpticalFlow, open_flow
from amodal2.video.loaded_tracks import loaded_tracks
from amodal2.video.tracks import Tracks


def add_completer_arguments(
    parser: argparse.ArgumentParser, compose: str, more: Sequence[str] = ()
) -> None:
    """Add ``--completer``, what it needs, and adaptation.

    Args:
        parser: of a tool.
        compose: default of ``--compose``.
        more: values of ``--completer`` beside the names of completers.
    """
    names = [*more, *sorted(name for name, _ in COMPLETER_REGISTRY)]
    parser.add_argument("--completer", required=True, choices=names)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the completer; may be repeated",
    )
    parser.add_argument(
        "--flow",
        default="auto",
        metavar="SOURCE",
        help="optical flow where none is stored: auto (RAFT if torchvision's weights are there, "
        "else DIS), raft, dis, a folder of .flo, .npy or .npz files, or an .npz archive",
    )
    parser.add_argument(
        "--compose",
        choices=COMPOSITIONS,
        default=compose,
        help="visible adds the visible mask to the prediction, others uses the prediction inside "
        f"other objects only, raw leaves it alone (default: {compose})",
    )
    parser.add_argument(
        "--threshold", type=float, help="on the probabilities (default: the completer's)"
    )
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda if there)")
    add_adaptation_arguments(parser)


def build_from_arguments(
    args: argparse.Namespace, options: Sequence[str] = (), depth: DepthSource | None = None
) -> TrackCompletion:
    """Make the completer of a command line.

    Args:
        args: with what :func:`add_completer_arguments` adds.
        options: further options of the completer, ``name=value`` each.
        depth: of the videos, for completers that take it.

    Raises:
        ValueError: if a name or an option is unknown, or the completer cannot adapt.
    """
    settings = CompletionSettings(
        compose=args.compose, threshold=args.threshold, device=available_device(args.device)
    )
    chosen = [*args.option, *options]
    return TrackCompletion.build(
        args.completer, chosen, settings, args.flow, adaptation_settings(args), depth
    )


def add_adaptation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--adapt`` and what belongs to it.

    Args:
        parser: of a tool.
    """
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="let the completer savos or pcnet learn from the visible masks of each video first",
    )
    parser.add_argument(
        "--adapt-iterations", type=int, default=100, metavar="N", help="at most (default: 100)"
    )
    parser.add_argument(
        "--adapt-lr", type=float, default=1e-4, metavar="RATE", help="(default: 1e-4)"
    )
    parser.add_argument(
        "--adapt-dir",
        type=Path,
        metavar="DIR",
        help="keep the state of each video there, to go on after an interruption",
    )


def adaptation_settings(args: argparse.Namespace) -> AdaptationSettings | None:
    """Translate the command line; None without ``--adapt``.

    Args:
        args: with what :func:`add_adaptation_arguments` adds.
    """
    if not args.adapt:
        return None
    return AdaptationSettings(
        max_iterations=args.adapt_iterations,
        learning_rate=args.adapt_lr,
        state_dir=args.adapt_dir,
    )


def parse_options(texts: Sequence[str]) -> dict[str, object]:
    """Read options of a completer.

    Args:
        texts: ``name=value`` each; a value that is no Python literal is text.

    Returns:
        dict: name to value.

    Raises:
        ValueError: if there is no "=".
    """
    options: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"parse_options: expected NAME=VALUE, got {text!r}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _load(name: str, values: dict[str, object], device: str) -> nn.Module:
    """Build the model of a trained completer; its options leave ``values``."""
    config, weights = values.pop("config", None), values.pop("weights", None)
    keys = values.pop("opts", [])
    cfg = get_cfg()
    if config is not None:
        cfg.merge_from_file(str(config))
    cfg.merge_from_list(keys)
    if weights is not None:
        cfg.MODEL.WEIGHTS = str(weights)
    if config is None or not cfg.MODEL.WEIGHTS:
        raise ValueError(
            f"TrackCompletion.build: expected config=FILE, and weights=FILE if it names none, for "
            f"{name}, got config={config} and weights={weights}"
        )
    cfg.MODEL.DEVICE = device
    return load_model(cfg)


def _second_stage(values: dict[str, object]) -> dict[str, object]:
    """Take what :func:`_load` needs to know of the second stage out of ``values``."""
    names = {"content": "config", "content_weights": "weights", "content_opts": "opts"}
    return {names[key]: values.pop(key) for key in names if key in values}


@dataclass(frozen=True)
class TrackCompletion:
    """A completer with all that it needs to run on videos.

    Attributes:
        completer (Completer): the method.
        settings (CompletionSettings): thresholds and composition.
        flow (str): source of the optical flow, see ``open_flow``.
        adapter (VideoAdapter | None): adapts the completer's model to each video first.
        depth (DepthSource | None): of completers that take the depth of the video.
    """

    completer: Completer
    settings: CompletionSettings
    flow: str = "auto"
    adapter: VideoAdapter | None = None
    depth: DepthSource | None = None

    @classmethod
    def build(
        cls,
        name: str,
        options: Sequence[str],
        settings: CompletionSettings,
        flow: str,
        adaptation: AdaptationSettings | None = None,
        depth: DepthSource | None = None,
    ) -> TrackCompletion:
        """Make a completer from the command line.

        Args:
            name: of ``COMPLETER_REGISTRY``.
            options: ``name=value`` each; completers that are trained take ``config`` (a yaml file),
                ``weights`` (default: those that the file names) and ``opts`` (a list of keys and
                values that change the config). Those that can do without a model, or read official
                weights, take ``config`` only for a model. ``content`` may be the config of a second
                stage, with ``content_weights`` and ``content_opts``.
            settings: thresholds and composition.
            flow: source of the optical flow.
            adaptation: adapt to each video; None does not.
            depth: of the videos, for completers that take it.

        Raises:
            ValueError: if a name or an option is unknown, or the completer cannot adapt.
        """
        values = parse_options(options)
        if name in COMPLETER_REGISTRY:
            parameters = inspect.signature(COMPLETER_REGISTRY.get(name)).parameters
            taken = parameters.get("model")
            if taken is not None and (taken.default is taken.empty or "config" in values):
                values["model"] = _load(name, values, settings.device)
            if "painter" in parameters and str(values.get("content")).endswith(".yaml"):
                values["painter"] = _load(name, _second_stage(values), settings.device)
        completer, model = build_completer(name, **values), values.get("model")
        if adaptation is None:
            return cls(completer, settings, flow, depth=depth)
        if name not in ("savos", "pcnet") or not isinstance(model, Adaptable):
            raise ValueError(f"--adapt: expected the completer savos or pcnet, got {name}")
        return cls(completer, settings, flow, VideoAdapter(model, adaptation), depth)

    def predict(
        self,
        source: FrameSource,
        tracks: Sequence[Track],
        on_frame: Callable[[], object] | None = None,
        *,
        flow: OpticalFlow | None = None,
        name: str = "video",
        truth: Mapping[int, MaskTube] | None = None,
        only: Collection[int] | None = None,
        depth: DepthSource | None = None,
        boxes: Boxes | None = None,
        on_content: ContentSink | None = None,
    ) -> list[VideoPrediction]:
        """Complete tracks, see ``complete_video``.

        Args:
            source: the video.
            tracks: with visible masks.
            on_frame: called after every frame.
            flow: of this video; None opens the source of all videos.
            name: of the video, for what adaptation keeps.
            truth: amodal masks by track id, which adaptation measures itself by.
            only: ids of the tracks that are learnt from, completed and returned; None takes all.
            depth: of this video; None takes that of all videos.
            boxes: by which objects are cut out, for completers that follow them.
            on_content: takes what the completer paints.

        Returns:
            list[VideoPrediction]: one per sample.
        """
        opened = flow or open_flow(self.flow, device=self.settings.device)
        if self.adapter is not None:
            self.adapter.adapt(name, source, tracks, opened, truth, only)
        return complete_video(
            self.completer,
            source,
            tracks,
            self.settings,
            flow=opened,
            on_frame=on_frame,
            only=only,
            depth=depth or self.depth,
            on_content=on_content,
            boxes=boxes,
        )

    def __call__(
        self,
        source: FrameSource,
        tracks: Tracks,
        on_frame: Callable[[], object],
        on_content: ContentSink | None = None,
    ) -> Tracks:
        """Put this completer's amodal masks in place of those of a model.

        Args:
            source: the video.
            tracks: with visible masks.
            on_frame: called after every frame.
            on_content: takes what the completer paints.

        Returns:
            Tracks: the first sample.

        Raises:
            ValueError: if the model predicts no visible masks.
        """
        loaded = tracks.to_prediction(1)
        plain = [replace(track, amodal=None, amodal_score=None) for track in loaded.tracks]
        return loaded_tracks(self.predict(source, plain, on_frame, on_content=on_content)[0])
