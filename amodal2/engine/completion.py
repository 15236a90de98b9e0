"""Completers for the command line: their options, and tracks in, tracks out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from amodal2.modeling.completion import (
    Completer,
    CompletionSettings,
    build_completer,
    complete_video,
)
from amodal2.structures.track import Track, VideoPrediction
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.optical_flow import open_flow
from amodal2.video.loaded_tracks import loaded_tracks
from amodal2.video.tracks import Tracks


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


@dataclass(frozen=True)
class TrackCompletion:
    """A completer with all that it needs to run on videos.

    Attributes:
        completer (Completer): the method.
        settings (CompletionSettings): thresholds and composition.
        flow (str): source of the optical flow, see ``open_flow``.
    """

    completer: Completer
    settings: CompletionSettings
    flow: str = "auto"

    @classmethod
    def build(
        cls, name: str, options: Sequence[str], settings: CompletionSettings, flow: str
    ) -> TrackCompletion:
        """Make a completer from the command line.

        Args:
            name: of ``COMPLETER_REGISTRY``.
            options: ``name=value`` each.
            settings: thresholds and composition.
            flow: source of the optical flow.

        Raises:
            ValueError: if a name or an option is unknown.
        """
        return cls(build_completer(name, **parse_options(options)), settings, flow)

    def predict(
        self,
        source: FrameSource,
        tracks: Sequence[Track],
        on_frame: Callable[[], object] | None = None,
    ) -> list[VideoPrediction]:
        """Complete tracks, see ``complete_video``.

        Args:
            source: the video.
            tracks: with visible masks.
            on_frame: called after every frame.

        Returns:
            list[VideoPrediction]: one per sample.
        """
        flow = open_flow(self.flow, device=self.settings.device)
        return complete_video(
            self.completer, source, tracks, self.settings, flow=flow, on_frame=on_frame
        )

    def __call__(
        self, source: FrameSource, tracks: Tracks, on_frame: Callable[[], object]
    ) -> Tracks:
        """Put this completer's amodal masks in place of those of a model.

        Args:
            source: the video.
            tracks: with visible masks.
            on_frame: called after every frame.

        Returns:
            Tracks: the first sample.

        Raises:
            ValueError: if the model predicts no visible masks.
        """
        loaded = tracks.to_prediction(1)
        plain = [replace(track, amodal=None, amodal_score=None) for track in loaded.tracks]
        return loaded_tracks(self.predict(source, plain, on_frame)[0])
