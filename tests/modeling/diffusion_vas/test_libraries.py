"""What happens where the extra is not installed."""

import sys

import pytest

from amodal2.modeling.diffusion_vas.depth_anything import DepthAnything
from amodal2.modeling.diffusion_vas.loading import build_pipeline, load_pipeline
from amodal2.utils.errors import MissingDependencyError


@pytest.mark.parametrize("library", ["diffusers", "transformers", "accelerate"])
@pytest.mark.parametrize(
    "use",
    [
        lambda: build_pipeline("tiny"),
        lambda: load_pipeline("kaihuac/model"),
        lambda: DepthAnything.load("x"),
    ],
    ids=["build", "load", "depth"],
)
def test_absent_library_is_named_with_the_extra(use, library, monkeypatch):
    # Those that are looked for first may be absent, too.
    monkeypatch.setattr("amodal2.modeling.diffusion_vas.libraries.MINIMUM", {library: (0, 0)})
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"'{library}' .*amodal2\[diffusion\]"):
        use()
