"""Warping and splatting: kernels and reference against oracles of plain loops."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, mask_warp
from amodal2.ops import _mask_warp_reference as module
from tests.conftest import golden_files
from tests.ops.mask_warp_cases import (
    DTYPES,
    MODES,
    SHAPES,
    assert_equal_gradients,
    gradients,
    hat_oracle,
    loop_oracle,
    make_case,
    make_smooth_case,
    mixture,
)

REFERENCES = {
    "mask_warp": module.warp_reference,
    "_mask_warp_backward": module.warp_backward_reference,
    "mask_splat": module.splat_reference,
    "_mask_splat_backward": module.splat_backward_reference,
}


@pytest.fixture(params=["dispatched", "reference"])
def implementation(request) -> Iterator[str]:
    """Run a test as it comes, and with the PyTorch references in place of what is compiled."""
    with contextlib.ExitStack() as stack:
        if request.param == "reference":
            library = stack.enter_context(torch.library._scoped_library("amodal2", "IMPL"))
            for name, function in REFERENCES.items():
                library.impl(name, function, "CPU", allow_override=True)
        yield request.param


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
    expected = [*module.warp_backward_reference(*arguments)]
    arguments = (grad[:, 1:], grad[:, :1], mask, flow, weight, offset, border, [True] * 3)
    found += torch.ops.amodal2._mask_splat_backward(*arguments)
    expected += module.splat_backward_reference(*arguments)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("backward-zeros", "mask"),
        ("backward-zeros", "flow"),
        ("average-weighted", "mask"),
        ("average-weighted", "flow"),
        ("average-weighted", "weight"),
    ],
)
def test_mask_warp_one_gradient_alone_equals_it_among_all(mode, wanted):
    mask, flow, options = make_case("odd", mode)
    inputs = {"mask": mask, "flow": flow, **options}
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


@pytest.mark.parametrize(
    ("mode", "normalize"), [("backward", "none"), ("splat", "none"), ("splat", "average")]
)
def test_mask_warp_zero_flow_is_identity(mode, normalize):
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
