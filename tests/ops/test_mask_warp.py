"""Warping and splatting: kernels and reference against oracles of plain loops."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, mask_warp, op_paths
from tests.conftest import golden_files

module = importlib.import_module("amodal2.ops.mask_warp")
ROOT = Path(__file__).resolve().parents[2]

# (masks, channels, height, width), spread of the flow in pixels
SHAPES = {
    "one-pixel": ((1, 1, 1, 1), 0.6),
    "one-row": ((2, 2, 1, 7), 1.5),
    "one-column": ((1, 2, 6, 1), 1.5),
    "odd": ((2, 3, 5, 7), 2.0),
    "far": ((1, 1, 6, 5), 20.0),
    "two-chunks": ((1, 2, 13, 41), 0.7),
}
# Options of the op, and whether it takes a weight.
MODES = {
    "backward-zeros": ({"mode": "backward"}, False),
    "backward-border": ({"mode": "backward", "padding": "border", "offset": (-0.5, 0.25)}, False),
    "splat-zeros": ({"mode": "splat"}, False),
    "splat-border": ({"mode": "splat", "padding": "border", "offset": 0.5}, False),
    "splat-weighted": ({"mode": "splat", "offset": (0.0, -0.5)}, True),
    "average": ({"mode": "splat", "normalize": "average"}, False),
    "average-border": ({"mode": "splat", "normalize": "average", "padding": "border"}, False),
    "average-weighted": ({"mode": "splat", "normalize": "average", "eps": 0.05}, True),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make_case(
    shape: str, mode: str, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, dict]:
    """Draw mask, flow and options; no point lies close to a kink, with any of the offsets."""
    (n, c, h, w), spread = SHAPES[shape]
    options, weighted = MODES[mode]
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    mask = torch.randn(n, c, h, w, dtype=torch.float64).to(dtype)
    flow = spread * torch.randn(n, 2, h, w, dtype=torch.float64)
    flow = (flow * 4).floor() / 4 + 0.05 + 0.15 * torch.rand_like(flow)
    if weighted:
        options = {**options, "weight": torch.rand(n, h, w, dtype=torch.float64).to(accumulate)}
    return mask, flow.to(accumulate), options


def make_smooth_case(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw masks and a flow with long runs of points side by side, and breaks between them."""
    mask = torch.rand(2, 3, 19, 83, dtype=torch.float64).to(dtype)
    flow = torch.full((2, 2, 19, 83), 0.3, dtype=torch.float64)
    flow[0, 0, :, 40:] = -2.6
    flow[1, 0] += torch.linspace(0, 5, 83)
    flow[1, 1] += torch.linspace(0, -3, 83)
    return mask, flow.to(torch.float64 if dtype == torch.float64 else torch.float32)


def _taps(flow: Tensor, n: int, row: int, column: int, options: dict) -> list:
    """List (row, column, share) of the pixels that the point of a pixel is between."""
    height, width = flow.shape[2:]
    offset = options.get("offset", 0.0)
    offset_x, offset_y = offset if isinstance(offset, tuple) else (offset, offset)
    x = column + flow[n, 0, row, column].item() + offset_x
    y = row + flow[n, 1, row, column].item() + offset_y
    if options.get("padding") == "border":
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    taps = []
    for r in (math.floor(y), math.floor(y) + 1):
        for c in (math.floor(x), math.floor(x) + 1):
            if 0 <= r < height and 0 <= c < width:
                taps.append((r, c, (1 - abs(x - c)) * (1 - abs(y - r))))
    return taps


def loop_oracle(mask: Tensor, flow: Tensor, options: dict) -> Tensor:
    """Apply the definition pixel by pixel."""
    mask, weight = mask.double(), options.get("weight")
    output, covered = torch.zeros_like(mask), torch.zeros_like(mask[:, 0])
    for n, r, c in itertools.product(*(range(mask.shape[axis]) for axis in (0, 2, 3))):
        for row, column, share in _taps(flow, n, r, c, options):
            if options["mode"] == "backward":
                output[n, :, r, c] += share * mask[n, :, row, column]
                continue
            if weight is not None:
                share *= weight[n, r, c].item()
            output[n, :, row, column] += share * mask[n, :, r, c]
            covered[n, row, column] += share
    if options.get("normalize") == "average":
        output /= covered.clamp(min=options.get("eps", 1e-6))[:, None]
    return output


def hat_oracle(mask: Tensor, flow: Tensor, **options) -> Tensor:
    """Sum hat functions over all pairs of pixels: no floor, no index, so autograd may follow."""
    height, width = mask.shape[2:]
    offset = options.get("offset", 0.0)
    offset_x, offset_y = offset if isinstance(offset, tuple) else (offset, offset)
    columns, rows = torch.arange(width).to(flow), torch.arange(height).to(flow)
    x = columns + flow[:, 0] + offset_x
    y = rows[:, None] + flow[:, 1] + offset_y
    if options.get("padding") == "border":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hat_x = (1 - (x[..., None] - columns).abs()).clamp(min=0)  # [N, h, w, W]
    hat_y = (1 - (y[..., None] - rows).abs()).clamp(min=0)  # [N, h, w, H]
    if options["mode"] == "backward":
        return torch.einsum("nchw,nyxh,nyxw->ncyx", mask, hat_y, hat_x)
    weight = options.get("weight")
    weight = torch.ones_like(x) if weight is None else weight
    output = torch.einsum("ncyx,nyx,nyxh,nyxw->nchw", mask, weight, hat_y, hat_x)
    if options.get("normalize") == "average":
        covered = torch.einsum("nyx,nyxh,nyxw->nhw", weight, hat_y, hat_x)
        output = output / covered.clamp(min=options.get("eps", 1e-6))[:, None]
    return output


def mixture(output: Tensor) -> Tensor:
    return torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output).to(output)


def gradients(function, mask: Tensor, flow: Tensor, options: dict) -> dict[str, Tensor]:
    """Differentiate a weighted sum of the output by mask, flow and weight."""
    inputs = {"mask": mask, "flow": flow}
    if options.get("weight") is not None:
        inputs["weight"] = options["weight"]
    inputs = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    output = function(**{**options, **inputs})
    (output * mixture(output)).sum().backward()
    return {name: x.grad for name, x in inputs.items()}


def assert_equal_gradients(found: dict, expected: dict, **tolerance) -> None:
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(
            grad.cpu().double(),
            expected[name].double(),
            **tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


class _References:
    """Runs the PyTorch references in place of what is compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ops = {
            "mask_warp": module._warp_reference,
            "mask_splat": module._splat_reference,
        }
        for name, function in ops.items():
            monkeypatch.setattr(torch.ops.amodal2, name, function, raising=False)


@pytest.fixture(params=["dispatched", "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        _References(monkeypatch)
    return request.param


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_warp_equals_loop_oracle(shape, mode):
    mask, flow, options = make_case(shape, mode)
    output = mask_warp(mask, flow, **options)
    torch.testing.assert_close(output, loop_oracle(mask, flow, options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", ["odd", "two-chunks"])
def test_mask_warp_float32_equals_loop_oracle(shape, mode):
    mask, flow, options = make_case(shape, mode, torch.float32)
    output = mask_warp(mask, flow, **options)
    assert output.dtype == torch.float32
    expected = loop_oracle(mask, flow, options)
    torch.testing.assert_close(output.double(), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_runs_of_points_equal_loop_oracle(mode, dtype):
    """Points side by side take a path of their own in the CPU kernel."""
    mask, flow = make_smooth_case(dtype)
    output = mask_warp(mask, flow, mode)
    expected = loop_oracle(mask, flow, {"mode": mode})
    torch.testing.assert_close(output.double(), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_warp_gradients_equal_those_of_hat_oracle(shape, mode):
    mask, flow, options = make_case(shape, mode)
    found = gradients(mask_warp, mask, flow, options)
    expected = gradients(hat_oracle, mask, flow, options)
    assert_equal_gradients(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_gradients_of_runs_equal_those_of_hat_oracle(mode):
    mask, flow = make_smooth_case(torch.float32)
    found = gradients(mask_warp, mask, flow, {"mode": mode})
    expected = gradients(hat_oracle, mask.double(), flow.double(), {"mode": mode})
    assert_equal_gradients(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_mask_warp_gradcheck_float64(mode):
    mask, flow, options = make_case("odd", mode)
    inputs = {"mask": mask, "flow": flow, **options}
    names = [name for name, x in inputs.items() if isinstance(x, Tensor)]
    tensors = [inputs[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *x: mask_warp(**{**inputs, **dict(zip(names, x, strict=True))}),
        tensors,
        nondet_tol=0.0,
    )


@pytest.mark.parametrize("border", [False, True], ids=["zeros", "border"])
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_warp_backward_references_equal_dispatched(shape, border):
    mask, flow, options = make_case(shape, "average-weighted")
    weight, offset = options["weight"][:, None], [0.5, -0.25]
    grad = torch.randn(mask.shape[0], mask.shape[1] + 1, *mask.shape[2:], dtype=torch.float64)
    arguments = (grad[:, 1:], mask, flow, offset, border, [True, True])
    found = [*torch.ops.amodal2._mask_warp_backward(*arguments)]
    expected = [*module._warp_backward_reference(*arguments)]
    arguments = (grad, mask, flow, weight, True, offset, border, [True, True, True])
    found += torch.ops.amodal2._mask_splat_backward(*arguments)
    expected += module._splat_backward_reference(*arguments)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wanted", ["mask", "flow", "weight"])
@pytest.mark.parametrize("mode", ["backward-zeros", "average-weighted"])
def test_mask_warp_one_gradient_alone_equals_it_among_all(mode, wanted):
    mask, flow, options = make_case("odd", mode)
    inputs = {"mask": mask, "flow": flow, **options}
    if wanted not in inputs:
        pytest.skip("the mode takes no weight")
    expected = gradients(mask_warp, mask, flow, options)[wanted]
    inputs[wanted] = inputs[wanted].clone().requires_grad_()
    output = mask_warp(**inputs)
    (output * mixture(output)).sum().backward()
    assert torch.equal(inputs[wanted].grad, expected)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("offset", [0.0, (-0.5, 0.25)], ids=str)
def test_mask_warp_backward_and_splat_are_exact_adjoints(padding, offset):
    """Small integers and quarters of pixels: every product and sum is exact in float32."""
    mask = torch.randint(-8, 9, (2, 3, 17, 37)).float()
    grad = torch.randint(-8, 9, (2, 3, 17, 37)).float()
    flow = torch.randint(-12, 13, (2, 2, 17, 37)) / 4
    options = {"padding": padding, "offset": offset}
    warped = (mask_warp(mask, flow, "backward", **options) * grad).sum(dtype=torch.float64)
    splatted = (mask * mask_warp(grad, flow, "splat", **options)).sum(dtype=torch.float64)
    assert warped == splatted
    assert warped != 0


@pytest.mark.parametrize("mode", ["backward", "splat"])
@pytest.mark.parametrize("normalize", ["none", "average"])
def test_mask_warp_zero_flow_is_identity(mode, normalize):
    if mode == "backward" and normalize == "average":
        pytest.skip("averages belong to splatting")
    mask = torch.randn(2, 3, 11, 21)
    output = mask_warp(mask, torch.zeros(2, 2, 11, 21), mode, normalize=normalize)
    assert torch.equal(output, mask)


def test_mask_warp_zero_flow_with_official_offset_averages_two_by_two():
    """A dot becomes four quarters at its pixel and those to the right and below."""
    mask = torch.zeros(1, 1, 6, 8)
    mask[0, 0, 2, 3] = 1
    output = mask_warp(mask, torch.zeros(1, 2, 6, 8), padding="border", offset=-0.5)
    expected = torch.zeros_like(mask)
    expected[0, 0, 2:4, 3:5] = 0.25
    assert torch.equal(output, expected)


def test_mask_warp_constant_integer_flow_splats_as_backward_with_negated_flow():
    mask = torch.randn(1, 2, 9, 12)
    flow = torch.tensor([2.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 9, 12)
    splatted, sampled = mask_warp(mask, flow, "splat"), mask_warp(mask, -flow, "backward")
    assert torch.equal(splatted, sampled)
    assert torch.equal(splatted[..., :6, 2:], mask[..., 3:, :10])


def test_mask_warp_average_without_arrivals_is_zero():
    mask = torch.ones(1, 1, 4, 6)
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0] = 2
    output = mask_warp(mask, flow, "splat", normalize="average")
    assert torch.equal(output[..., :2], torch.zeros(1, 1, 4, 2))
    assert torch.equal(output[..., 2:], torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("mode", ["backward", "splat"])
@pytest.mark.parametrize("distance", [1e30, -1e30, 50.0, -1e9], ids=str)
def test_mask_warp_far_outside_with_zeros_is_zero_whatever_the_mask(mode, distance):
    mask = torch.full((1, 2, 5, 13), torch.inf)
    output = mask_warp(mask, torch.full((1, 2, 5, 13), distance), mode)
    assert torch.equal(output, torch.zeros_like(mask))


@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_derivative_on_a_pixel_is_that_to_the_right_and_below(mode):
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 1, 1] = 1
    flow = torch.zeros(1, 2, 4, 4, requires_grad=True)
    output = mask_warp(mask, flow, mode)
    if mode == "backward":
        output.sum().backward()
        assert flow.grad[0, :, 1, 1].tolist() == [-1, -1]
        assert flow.grad[0, :, 1, 0].tolist() == [1, 0]
        assert flow.grad[0, :, 1, 2].tolist() == [0, 0]
    else:
        (
            output * torch.tensor([[0.0, 0, 0, 0], [0, 0, 3, 0], [0, 5, 0, 0], [0] * 4])
        ).sum().backward()
        assert flow.grad[0, :, 1, 1].tolist() == [3, 5]


def test_mask_warp_clamped_point_gets_no_gradient_along_its_axis():
    mask = torch.randn(1, 1, 5, 6, dtype=torch.float64)
    flow = torch.full((1, 2, 5, 6), 0.3, dtype=torch.float64)
    flow[0, 0, 2, 3], flow[0, 1, 2, 4] = 9, -9
    flow.requires_grad_()
    mask_warp(mask, flow, padding="border").sum().backward()
    assert flow.grad[0, 0, 2, 3] == 0
    assert flow.grad[0, 1, 2, 3] != 0
    assert flow.grad[0, 0, 2, 4] != 0
    assert flow.grad[0, 1, 2, 4] == 0


GOLDEN = {
    "official_warp": {"padding": "border", "offset": -0.5},
    "ref_splat_sum": {"mode": "splat"},
    "ref_splat_avg": {"mode": "splat", "normalize": "average"},
    "ref_backward_zeros": {},
    "ref_backward_border": {"padding": "border"},
}


def _differentiable(flow: Tensor, options: dict) -> Tensor:
    """Tell where the derivative by the flow exists: no coordinate on a pixel, none clamped."""
    size = torch.tensor(flow.shape[:1:-1], dtype=torch.float64).view(1, 2, 1, 1)
    rows, columns = torch.meshgrid(*(torch.arange(x) for x in flow.shape[2:]), indexing="ij")
    position = torch.stack([columns, rows]) + flow.double() + options.get("offset", 0.0)
    exists = (position - position.round()).abs() > 1e-4
    if options.get("padding") == "border":
        exists &= (position > 0) & (position < size - 1)
    return exists.all(dim=1, keepdim=True).expand_as(flow)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("path", golden_files("warp_*.pt"))
def test_mask_warp_golden_cases_match_reference(path, name):
    golden, options = torch.load(path, weights_only=True), GOLDEN[name]
    for case, inputs in golden["inputs"].items():
        outputs = golden["outputs"][case]
        sign = -1 if name == "official_warp" else 1
        mask, flow = (inputs[key].clone().requires_grad_() for key in ("mask", "flow"))
        output = mask_warp(mask, sign * flow, **options)
        output.backward(inputs["grad_out"])
        torch.testing.assert_close(output, outputs[name], atol=2e-6, rtol=1e-5)
        prefix = name.replace("_warp", "")
        torch.testing.assert_close(mask.grad, outputs[f"{prefix}_grad_mask"], atol=1e-5, rtol=1e-5)
        exists = _differentiable(sign * inputs["flow"], options)
        torch.testing.assert_close(
            flow.grad[exists], outputs[f"{prefix}_grad_flow"][exists], atol=5e-5, rtol=1e-5
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["backward-border", "average-weighted"])
def test_mask_warp_non_contiguous_equals_contiguous(mode, dtype):
    mask, flow, options = make_case("odd", mode, dtype)
    expected = mask_warp(mask, flow, **options)
    if "weight" in options:
        options["weight"] = options["weight"].transpose(1, 2).contiguous().transpose(1, 2)
    strided = mask.to(memory_format=torch.channels_last)
    wide = flow.repeat_interleave(2, dim=-1)[..., ::2]
    assert not strided.is_contiguous()
    assert not wide.is_contiguous()
    output = mask_warp(strided, wide, **options)
    assert output.is_contiguous()
    assert torch.equal(output, expected)


@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_expanded_gradient_is_accepted(mode):
    mask, flow, _ = make_case("odd", "splat-zeros")
    mask.requires_grad_()
    mask_warp(mask, flow, mode).sum().backward()
    (grad,) = torch.autograd.grad(
        mask_warp(mask, flow, mode), mask, torch.ones(mask.shape, dtype=torch.float64)
    )
    assert torch.equal(mask.grad, grad)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("empty", range(4), ids=["masks", "channels", "rows", "columns"])
def test_mask_warp_empty_input_gives_empty_output_and_zero_gradients(empty, mode):
    sizes = [2, 3, 4, 5]
    sizes[empty] = 0
    n, _, h, w = sizes
    options, weighted = MODES[mode]
    mask, flow = torch.randn(sizes, requires_grad=True), torch.randn(n, 2, h, w, requires_grad=True)
    weight = torch.rand(n, 1, h, w, requires_grad=True) if weighted else None
    output = mask_warp(mask, flow, **options, weight=weight)
    assert output.shape == mask.shape
    output.sum().backward()
    for tensor in (mask, flow, weight):
        if tensor is not None:
            assert tensor.grad.shape == tensor.shape
            assert not tensor.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_mask_warp_short_types_error_at_most_twice_plain_version(mode, dtype):
    mask, flow, options = make_case("odd", mode, dtype)
    expected = mask_warp(mask.float(), flow, **options)
    output = mask_warp(mask, flow, **options)
    short = {name: x.to(dtype) if isinstance(x, Tensor) else x for name, x in options.items()}
    plain = hat_oracle(mask, flow.to(dtype), **short)
    assert output.dtype == dtype
    error = (output.float() - expected).abs().max()
    assert error <= 2 * (plain.float() - expected).abs().max()


def test_mask_warp_bfloat16_gradients_have_input_types():
    mask, flow, options = make_case("odd", "average-weighted", torch.bfloat16)
    found = gradients(mask_warp, mask, flow.bfloat16(), options)
    expected = gradients(mask_warp, mask.float(), flow.bfloat16().float(), options)
    assert [x.dtype for x in found.values()] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert_equal_gradients(found, expected, atol=0.1, rtol=0.05)


def test_mask_warp_autocast_takes_mixed_types():
    mask, flow, options = make_case("odd", "average-weighted", torch.float32)
    layer = nn.Conv2d(3, 3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        projected = layer(mask)
        output = mask_warp(projected, flow, **options)
    assert projected.dtype == output.dtype == torch.bfloat16
    expected = mask_warp(projected.float(), flow, **options)
    torch.testing.assert_close(output.float(), expected, atol=0.02, rtol=0.01)
    output.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


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
    coverage = options.get("normalize") == "average"
    return torch.ops.amodal2.mask_splat.default, (*tensors, weight, coverage, offset, border)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", ["backward-border", "splat-zeros", "average-weighted"])
def test_mask_warp_opcheck_passes(mode, dtype):
    op, arguments = op_arguments(mode, dtype, True)
    found = torch.library.opcheck(op, arguments)
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@pytest.mark.parametrize("needs", [True, False], ids=["all", "some"])
@pytest.mark.parametrize("mode", ["backward-border", "average-weighted"])
def test_mask_warp_backward_opcheck_passes(mode, needs):
    op, arguments = op_arguments(mode, torch.bfloat16, False)
    grad = op(*arguments)
    name = f"_{op._schema.name.split('::')[1]}_backward"
    backward = getattr(torch.ops.amodal2, name).default
    wanted = [needs, True] if mode.startswith("backward") else [needs, True, needs]
    found = torch.library.opcheck(backward, (grad, *arguments, wanted))
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


@pytest.mark.parametrize("mode", MODES)
def test_mask_warp_deterministic_algorithms_same_result(mode):
    """In this mode PyTorch fills fresh memory with NaN, so nothing unwritten may be read."""
    mask, flow, options = make_case("two-chunks", mode, torch.float32)
    expected = mask_warp(mask, flow, **options), gradients(mask_warp, mask, flow, options)
    torch.use_deterministic_algorithms(True)
    try:
        found = mask_warp(mask, flow, **options), gradients(mask_warp, mask, flow, options)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found[0], expected[0])
    for name, grad in expected[1].items():
        assert torch.equal(found[1][name], grad)


@pytest.mark.skipif(not HAS_C, reason="the reference makes no such promise")
@pytest.mark.parametrize("mode", ["backward-zeros", "average-weighted"])
def test_mask_warp_any_thread_number_same_bits(mode):
    mask, flow, options = make_case("two-chunks", mode, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradients(mask_warp, mask, flow, options)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for name, grad in gradients(mask_warp, mask, flow, options).items():
                assert torch.equal(grad, expected[name])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("mode", ["backward", "splat"])
def test_mask_warp_double_backward_raises(mode):
    mask, flow, _ = make_case("odd", "splat-zeros")
    mask.requires_grad_()
    output = mask_warp(mask, flow, mode)
    (grad,) = torch.autograd.grad(output.square().sum(), mask, create_graph=True)
    with pytest.raises(RuntimeError, match="first-order gradients only, got a double backward"):
        grad.sum().backward()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("mode", ["backward", "splat"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_mask_warp_non_finite_flow_raises_value_error(value, mode):
    mask, flow, _ = make_case("odd", "splat-zeros", torch.float32)
    flow[1, 0, 4, 2] = value
    message = rf"mask_warp: expected flow of finite numbers, got {value} at \[1, 0, 4, 2\]"
    for padding in ("zeros", "border"):
        with pytest.raises(ValueError, match=message):
            mask_warp(mask, flow, mode, padding)


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
    monkeypatch.setattr(module, "_check_finite", lambda flow: None)
    check_non_finite_flow_unchecked(
        "cpu",
        lambda mask, flow, border: module._warp_reference(mask, flow, [0.0, 0.0], border),
        lambda mask, flow, border: module._splat_reference(
            mask, flow, None, False, [0.0, 0.0], border
        ),
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
        torch.ops.amodal2.mask_splat(*tensors, False, [0.0, 0.0], False)


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
            mask, flow, None, False, [0.0, 0.0], border
        ),
    )


@pytest.mark.slow
def test_mask_warp_without_extension_runs_the_reference():
    """Block the extension in a new interpreter and run this file's checks of the op there."""
    script = """
import sys
sys.modules["amodal2._C"] = None
import pytest, amodal2.ops
assert not amodal2.ops.HAS_C
for name in ("mask_warp", "mask_splat"):
    path = amodal2.ops.op_paths()[name].path
    assert path == "CPU: PyTorch reference, CUDA: PyTorch reference", path
chosen = "gradcheck or hat_oracle or adjoints or (opcheck and float32)"
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", chosen, sys.argv[1]]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, __file__],
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
