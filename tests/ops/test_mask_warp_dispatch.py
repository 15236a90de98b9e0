"""Warping and splatting as ops: checks of PyTorch, compilers, errors, CUDA, without a kernel."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, mask_warp, op_paths
from amodal2.ops import _mask_warp_reference as module
from tests.ops.mask_warp_cases import (
    DTYPES,
    MODES,
    SHAPES,
    assert_equal_gradients,
    gradients,
    hat_oracle,
    loop_oracle,
    make_case,
)

ROOT = Path(__file__).resolve().parents[2]


def op_arguments(mode: str, dtype: torch.dtype, requires_grad: bool) -> tuple:
    """Return the op and its arguments, as the public function passes them."""
    mask, flow, options = make_case("odd", mode, dtype)
    offset = options.get("offset", 0.0)
    offset = list(offset) if isinstance(offset, tuple) else [offset, offset]
    border, weight = options.get("padding") == "border", options.get("weight")
    tensors = [x.requires_grad_(requires_grad) for x in (mask, flow)]
    if options["mode"] == "backward":
        return torch.ops.amodal2.mask_warp.default, (*tensors, offset, border)
    if weight is not None:
        weight = weight[:, None].clone().requires_grad_(requires_grad)
    eps = options.get("eps", 1e-6) if options.get("normalize") == "average" else None
    return torch.ops.amodal2.mask_splat.default, (*tensors, weight, eps, offset, border)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", ["backward-border", "splat-zeros", "average-weighted"])
def test_mask_warp_opcheck_passes(mode, dtype):
    op, arguments = op_arguments(mode, dtype, True)
    found = torch.library.opcheck(op, arguments)
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@pytest.mark.parametrize("needs", [True, False], ids=["all", "some"])
@pytest.mark.parametrize("mode", ["backward-border", "splat-zeros", "average-weighted"])
def test_mask_warp_backward_opcheck_passes(mode, needs):
    op, arguments = op_arguments(mode, torch.bfloat16, False)
    if mode == "backward-border":
        backward = torch.ops.amodal2._mask_warp_backward.default
        arguments = (op(*arguments), *arguments, [needs, True])
    else:
        mask, flow, weight, eps, *options = arguments
        grad, covered = op(*arguments)
        tensors = (grad, None if eps is None else covered, mask, flow, weight)
        backward = torch.ops.amodal2._mask_splat_backward.default
        arguments = (*tensors, *options, [needs, True, needs and weight is not None])
    found = torch.library.opcheck(backward, arguments)
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("mode", ["backward-border", "average-weighted"])
def test_mask_warp_compiled_equals_eager(mode):
    mask, flow, options = make_case("odd", mode, torch.float32)

    def twice(**inputs):
        return mask_warp(**inputs) * 2

    compiled = torch.compile(twice, backend="aot_eager", fullgraph=True, dynamic=True)
    found = gradients(compiled, mask, flow, options)
    assert_equal_gradients(found, gradients(twice, mask, flow, options))


class _Average(nn.Module):
    def forward(self, mask: Tensor, flow: Tensor) -> Tensor:
        return mask_warp(mask, flow, "splat", normalize="average")


def test_mask_warp_exported_with_dynamic_sizes_runs():
    mask, flow, _ = make_case("odd", "average", torch.float32)
    n, h = torch.export.Dim("n", min=1, max=64), torch.export.Dim("h", min=2, max=512)
    program = torch.export.export(_Average(), (mask, flow), dynamic_shapes=({0: n, 2: h},) * 2)
    assert "amodal2.mask_splat" in program.graph_module.code
    more = [torch.cat([x, x.flip(0), x])[:, :, :4] for x in (mask, flow)]
    torch.testing.assert_close(program.module()(*more), _Average()(*more))


@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_double_backward_raises(mode):
    mask, flow, _ = make_case("odd", "splat-zeros")
    mask.requires_grad_()
    output = mask_warp(mask, flow, mode)
    (grad,) = torch.autograd.grad(output.square().sum(), mask, create_graph=True)
    with pytest.raises(RuntimeError, match="first-order gradients only, got a double backward"):
        grad.sum().backward()


def check_non_finite_flow_unchecked(device: str, warp, splat) -> None:
    """Check what the docstring says about devices whose flow nobody looks at."""
    mask, flow = torch.randn(1, 2, 4, 5, device=device), torch.zeros(1, 2, 4, 5, device=device)
    flow[0, 0, 1, 2], flow[0, 1, 3, 4] = torch.nan, torch.inf
    lost = torch.zeros(4, 5, dtype=torch.bool, device=device)
    lost[1, 2] = lost[3, 4] = True
    for border in (False, True):
        warped, splatted = warp(mask, flow, border), splat(mask, flow, border)
        assert warped[:, :, lost].isnan().all()
        assert torch.equal(warped[:, :, ~lost], mask[:, :, ~lost])
        assert torch.equal(splatted, mask.where(~lost, 0))


def test_mask_warp_unchecked_non_finite_flow_is_nan_or_dropped_in_the_reference(monkeypatch):
    monkeypatch.setattr(module, "check_finite", lambda flow: None)
    check_non_finite_flow_unchecked(
        "cpu",
        lambda mask, flow, border: module.warp_reference(mask, flow, [0.0, 0.0], border),
        lambda mask, flow, border: module.splat_reference(
            mask, flow, None, None, [0.0, 0.0], border
        )[0],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "forward"}, 'expected mode "backward" or "splat", got \'forward\''),
        ({"padding": "reflect"}, 'expected padding "zeros" or "border", got \'reflect\''),
        (
            {"mode": "splat", "normalize": "sum"},
            'expected normalize "none" or "average", got \'sum\'',
        ),
        (
            {"normalize": "average"},
            'expected normalize "none" with mode "backward", got \'average\'',
        ),
        ({"offset": (1.0, 2.0, 3.0)}, r"expected offset one or two finite numbers, got \(1\.0"),
        ({"offset": math.nan}, "expected offset one or two finite numbers, got nan"),
        ({"mode": "splat", "eps": 0.0}, r"expected eps finite and above 0, got 0\.0"),
        ({"weight": torch.ones(2, 5, 7)}, 'expected weight None with mode "backward", got a'),
    ],
)
def test_mask_warp_wrong_option_raises_value_error(options, message):
    mask, flow, _ = make_case("odd", "backward-zeros", torch.float32)
    with pytest.raises(ValueError, match="mask_warp: " + message):
        mask_warp(mask, flow, **options)


def _changed(key: str) -> dict:
    mask, flow, options = make_case("odd", "splat-weighted", torch.float32)
    weight = options["weight"][:, None]
    changes = {
        "rank": {"mask": mask[0]},
        "flow-size": {"flow": flow[..., :6]},
        "flow-channels": {"flow": flow[:, :1]},
        "weight": {"weight": weight.expand(-1, 2, -1, -1)},
        "flow-device": {"flow": flow.to("meta")},
        "weight-device": {"weight": weight.to("meta")},
    }
    return {"mask": mask, "flow": flow, "weight": weight, **changes[key]}


SHAPE_ERRORS = [
    ("rank", r"expected mask \[N, C, H, W\], got \[3, 5, 7\]"),
    ("flow-size", r"expected flow .*\[2, 2, 5, 7\].*, got \[2, 2, 5, 6\]"),
    ("flow-channels", r"expected flow .*\[2, 2, 5, 7\].*, got \[2, 1, 5, 7\]"),
    ("weight", r"expected weight .*\[2, 1, 5, 7\].*, got \[2, 2, 5, 7\]"),
]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        *SHAPE_ERRORS,
        ("flow-device", "expected flow on cpu like mask, got meta"),
        ("weight-device", "expected weight on cpu like mask, got meta"),
    ],
)
def test_mask_warp_wrong_argument_raises_value_error(key, message):
    with pytest.raises(ValueError, match="mask_warp: " + message):
        mask_warp(**_changed(key), mode="splat")


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
@pytest.mark.parametrize(("key", "message"), SHAPE_ERRORS)
def test_mask_warp_kernel_checks_shapes(key, message):
    inputs = _changed(key)
    tensors = inputs["mask"], inputs["flow"], inputs["weight"]
    with pytest.raises(ValueError, match="mask_warp: " + message):
        torch.ops.amodal2.mask_splat(*tensors, None, [0.0, 0.0], False)


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((torch.int32, torch.float32), "expected mask of type float32, float64, bfloat16, float16"),
        ((torch.float32, torch.float64), "expected flow of type Float, got Double"),
        ((torch.bfloat16, torch.bfloat16), "expected flow of type Float, got BFloat16"),
    ],
)
def test_mask_warp_kernel_checks_types(types, message):
    mask, flow, _ = make_case("odd", "backward-zeros")
    with pytest.raises(TypeError, match="mask_warp: " + message):
        torch.ops.amodal2.mask_warp(mask.to(types[0]), flow.to(types[1]), [0.0, 0.0], False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mask", r"expected mask of type float32, .*, got torch\.int64"),
        ("flow", r"expected flow of a floating type, got torch\.int64"),
        ("weight", r"expected weight of a floating type, got torch\.int64"),
    ],
)
def test_mask_warp_integer_tensor_raises_type_error(name, message):
    mask, flow, options = make_case("odd", "splat-weighted", torch.float32)
    inputs = {"mask": mask, "flow": flow, **options}
    inputs[name] = inputs[name].long()
    with pytest.raises(TypeError, match="mask_warp: " + message):
        mask_warp(**inputs)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "deterministic"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_warp_on_cuda_equals_float64_reference(shape, mode, deterministic, dtype):
    mask, flow, options = make_case(shape, mode, dtype)
    there = {name: x.cuda() if isinstance(x, Tensor) else x for name, x in options.items()}
    torch.use_deterministic_algorithms(deterministic)
    try:
        output = mask_warp(mask.cuda(), flow.cuda(), **there)
        found = gradients(mask_warp, mask.cuda(), flow.cuda(), there)
    finally:
        torch.use_deterministic_algorithms(False)
    assert output.is_cuda
    wide = {name: x.double() if isinstance(x, Tensor) else x for name, x in options.items()}
    expected = loop_oracle(mask, flow, options)
    grads = gradients(hat_oracle, mask.double(), flow.double(), wide)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 0.1)
    torch.testing.assert_close(output.cpu().double(), expected, atol=tolerance, rtol=tolerance)
    assert_equal_gradients(found, grads, atol=10 * tolerance, rtol=10 * tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_deterministic_on_cuda_same_bits_every_time(mode):
    """Many pixels land on few, so that atomic additions would come in another order."""
    mask, flow = torch.randn(2, 3, 200, 300).cuda(), (-torch.rand(2, 2, 200, 300) * 200).cuda()
    options = {"mode": mode, "padding": "border"}
    torch.use_deterministic_algorithms(True)
    try:
        first = gradients(mask_warp, mask, flow, options)
        for _ in range(5):
            for name, grad in gradients(mask_warp, mask, flow, options).items():
                assert torch.equal(grad, first[name])
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
def test_mask_warp_non_finite_flow_on_cuda_is_nan_or_dropped():
    check_non_finite_flow_unchecked(
        "cuda",
        lambda mask, flow, border: torch.ops.amodal2.mask_warp(mask, flow, [0.0, 0.0], border),
        lambda mask, flow, border: torch.ops.amodal2.mask_splat(
            mask, flow, None, None, [0.0, 0.0], border
        )[0],
    )


@pytest.mark.slow
def test_mask_warp_without_extension_runs_the_reference():
    """Block the extension in a new interpreter and run some of the tests there."""
    script = """
import sys
sys.modules["amodal2._C"] = None
import pytest, amodal2.ops
assert not amodal2.ops.HAS_C
for name in ("mask_warp", "mask_splat"):
    path = amodal2.ops.op_paths()[name].path
    assert path == "CPU: PyTorch reference, CUDA: PyTorch reference", path
chosen = "gradcheck or hat_oracle or adjoints or (opcheck and float32)"
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", chosen, *sys.argv[1:]]))
"""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            __file__,
            str(Path(__file__).with_name("test_mask_warp.py")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
def test_mask_warp_op_path_names_kernel():
    for name in ("mask_warp", "mask_splat"):
        assert op_paths()[name].path.startswith("CPU: C++ kernel")
