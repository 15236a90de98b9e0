"""Recomputed activations and compiled parts: the same gradients, names and statistics."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.engine import execution
from amodal2.engine.execution import compile_parts, recompute, set_execution
from tests.modeling.tiny import make_sample, tiny_config

_SWIN = (
    *("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", 16),
    *("MODEL.SWIN.DEPTHS", (2, 2, 2, 2), "MODEL.SWIN.NUM_HEADS", (1, 2, 2, 4)),
)
_RESNET = (
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN"),
    *(
        "MODEL.RESNETS.OUT_FEATURES",
        ("res2", "res3", "res4", "res5"),
        "MODEL.BACKBONE.FREEZE_AT",
        0,
    ),
)
_BACKBONES = {
    "swin": _SWIN,
    "resnet": _RESNET,
    "timm": ("MODEL.TIMM.FREEZE_BN", False),
    "timm_convnext": (
        "MODEL.TIMM.NAME",
        "test_convnext.r160_in1k",
        "MODEL.TIMM.OUT_INDICES",
        (0, 1, 2, 3),
    ),
}
_PARTS = ("backbone", "pixel_decoder", "samh")


def build(*changes, recomputed=()):
    cfg = tiny_config("MODEL.A2VIS.FREEZE_DETECTOR", False, *changes)
    cfg.MODEL.RECOMPUTE = recomputed
    torch.manual_seed(0)
    model = build_model(cfg).train()
    set_execution(cfg, model)
    return model


def step(model):
    """Losses, gradients and buffers of one training pass, with all its random numbers."""
    torch.manual_seed(1)
    losses = model([make_sample(0), make_sample(1)])
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, dict(model.named_buffers())


@pytest.mark.parametrize("backbone", _BACKBONES)
def test_set_execution_recomputed_parts_have_the_same_gradients(backbone: str) -> None:
    plain = build(*_BACKBONES[backbone])
    model = build(*_BACKBONES[backbone], recomputed=_PARTS)
    assert model.state_dict().keys() == plain.state_dict().keys()
    runs = [0]
    for module in (
        model.sem_seg_head.pixel_decoder.transformer.encoder.layers[0].norm1,
        model.a2vis.samh.mask_embed,
        _a_norm(model.backbone),
    ):
        module.register_forward_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    torch.testing.assert_close(step(model), step(plain), atol=1e-6, rtol=1e-5)
    assert runs[0] >= 2 * (1 + 1 + 2 * 3)


def _a_norm(backbone: nn.Module) -> nn.Module:
    """A layer in the middle of the backbone."""
    return next(execution._blocks("backbone", backbone)[1].children())


def test_set_execution_recomputed_parts_run_once_without_gradients() -> None:
    model = build(recomputed=_PARTS)
    calls = []
    model.a2vis.samh.mask_embed.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model([make_sample(0)])
    assert len(calls) == 2 * 3  # clips x predictions


def test_recompute_copy_runs_with_its_own_weights() -> None:
    layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    recompute(layer)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other[0].weight.zero_()
        other[0].bias.zero_()
    x = torch.ones(1, 2, requires_grad=True)
    assert other(x).abs().sum() == 0
    other(x).sum().backward()
    assert layer[0].weight.grad is None


def test_recompute_keeps_less_for_the_gradients() -> None:
    def kept(module: nn.Module) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        ):
            module(torch.ones(8, 64, requires_grad=True))
        return sum(sizes)

    layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    before = kept(layers)
    recompute(layers)
    assert kept(layers) < before / 3


@pytest.mark.parametrize(
    ("changes", "recomputed", "message"),
    [
        ((), ("head",), "expected parts of A2VIS in MODEL.RECOMPUTE.*got 'head'"),
        (("MODEL.META_ARCHITECTURE", "VITA"), ("samh",), "parts of VITA .*got 'samh'"),
        (("MODEL.COMPILE", ("backbone",)), ("backbone",), r"got \['backbone'\] in both"),
    ],
)
def test_set_execution_impossible_parts_raise(changes, recomputed, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(*changes, recomputed=recomputed)


def test_set_execution_compiles_the_named_parts(monkeypatch) -> None:
    monkeypatch.setattr(execution, "missing_compiler", lambda device: "")
    compiled = []
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: compiled.append((self, options))
    )
    model = build("MODEL.COMPILE", ("backbone", "pixel_decoder"))
    parts = (model.backbone, model.sem_seg_head.pixel_decoder)
    assert compiled == [(part, {"dynamic": True}) for part in parts]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_set_execution_without_a_compiler_warns(monkeypatch, caplog, kind) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("torch.utils._triton.has_triton_package", lambda: False)
    expected = {"cpu": "a C++ compiler (g++)", "cuda": "the package triton"}[kind]
    assert execution.missing_compiler(torch.device(kind)) == expected
    model = build("MODEL.COMPILE", ("backbone",))
    assert "MODEL.COMPILE is ignored: torch.compile needs a C++ compiler" in caplog.text
    assert model.backbone._compiled_call_impl is None


@pytest.mark.slow
def test_set_execution_compiled_parts_have_the_same_gradients(monkeypatch) -> None:
    """Traced forward and backward as for any backend, without the time of the C++ compiler.

    For one size: symbolic ones cost most of a minute, and the test below has them.
    """
    compile_module = nn.Module.compile
    monkeypatch.setattr(execution, "missing_compiler", lambda device: "")
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self, **options: compile_module(self, backend="aot_eager", dynamic=False),
    )
    plain, model = build(), build("MODEL.COMPILE", ("backbone", "pixel_decoder"))
    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(step(model), step(plain), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_compile_parts_default_compiler_takes_the_ops() -> None:
    """One layer with deformable attention: every further kernel costs seconds of the compiler."""
    if execution.missing_compiler(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    layer = build().sem_seg_head.pixel_decoder.transformer.encoder.layers[0]
    shapes = [(2, 3), (4, 6), (8, 12)]
    tokens = torch.randn(2, sum(h * w for h, w in shapes), 32)
    arguments = (tokens, tokens[:1], torch.rand(tokens.shape[1], 2), shapes)
    with torch.no_grad():
        expected = layer(*arguments)
        compile_parts([layer])
        torch.testing.assert_close(layer(*arguments), expected, atol=1e-4, rtol=1e-3)
    assert layer._compiled_call_impl is not None
