"""Multi-scale deformable attention: kernel and reference against an oracle of plain loops."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, ms_deform_attn, op_paths

module = importlib.import_module("amodal2.ops.ms_deform_attn")
ROOT = Path(__file__).resolve().parents[2]

# (batch, queries, heads, depth, points, levels)
CASES = {
    "two-levels": (2, 3, 2, 4, 2, [(2, 3), (4, 5)]),
    "one-pixel-levels": (1, 2, 3, 5, 3, [(1, 1), (1, 4), (3, 1)]),
    "depth-16": (1, 4, 8, 16, 4, [(3, 4), (5, 6), (2, 2)]),
    "depth-32": (2, 3, 2, 32, 4, [(4, 4)]),
    "depth-17": (1, 3, 2, 17, 1, [(4, 3), (2, 2)]),
    "depth-70": (1, 2, 1, 70, 5, [(3, 3)]),
    "many-samples": (1, 2, 3, 3, 7, [(3, 3), (2, 2), (4, 4)]),
}
ARGUMENTS = ("value", "sampling_locations", "attention_weights")


def make_case(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, list, Tensor, Tensor]:
    """Draw arguments; about a third of the locations lie outside, none close to a kink."""
    batch, queries, heads, depth, points, levels = CASES[name]
    sizes = torch.tensor([(w, h) for h, w in levels], dtype=torch.float64)
    value = torch.randn(batch, sum(h * w for h, w in levels), heads, depth, dtype=torch.float64)
    shape = (batch, queries, heads, len(levels), points, 2)
    pixels = torch.rand(shape, dtype=torch.float64) * (sizes[:, None] + 3) - 2
    kinks = pixels.floor() + (pixels % 1).clamp(0.05, 0.95)
    locations = (kinks + 0.5) / sizes[:, None]
    weights = torch.rand(shape[:-1], dtype=torch.float64)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    return value.to(dtype), levels, locations.to(accumulate), weights.to(accumulate)


def loop_oracle(value: Tensor, levels: list, locations: Tensor, weights: Tensor) -> Tensor:
    """Apply the definition pixel by pixel."""
    batch, queries, heads, _, points, _ = locations.shape
    output = value.new_zeros(batch, queries, heads, value.shape[-1])
    for b in range(batch):
        for q in range(queries):
            for m in range(heads):
                start = 0
                for level, (height, width) in enumerate(levels):
                    for p in range(points):
                        x = locations[b, q, m, level, p, 0].item() * width - 0.5
                        y = locations[b, q, m, level, p, 1].item() * height - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < height and 0 <= column < width:
                                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                                    pixel = value[b, start + row * width + column, m]
                                    output[b, q, m] += weights[b, q, m, level, p] * share * pixel
                    start += height * width
    return output.flatten(2)


def gradients(function, value, levels, locations, weights) -> list[Tensor]:
    """Differentiate a weighted sum of the output in the three tensors."""
    inputs = [x.detach().clone().requires_grad_() for x in (value, locations, weights)]
    output = function(inputs[0], levels, inputs[1], inputs[2])
    mixture = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * mixture.to(output.device)).sum().backward()
    return [x.grad for x in inputs]


def reference(value, levels, locations, weights) -> Tensor:
    """Call the PyTorch reference, whatever is compiled."""
    return module._reference(value, [size for pair in levels for size in pair], locations, weights)


def op_arguments(name: str, dtype: torch.dtype, requires_grad: bool) -> tuple:
    value, levels, locations, weights = make_case(name, dtype)
    tensors = [x.requires_grad_(requires_grad) for x in (value, locations, weights)]
    return tensors[0], [size for pair in levels for size in pair], tensors[1], tensors[2]


@pytest.mark.parametrize("function", [ms_deform_attn, reference], ids=["dispatched", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_ms_deform_attn_equals_loop_oracle(name, function):
    case = make_case(name)
    torch.testing.assert_close(function(*case), loop_oracle(*case))


@pytest.mark.parametrize("name", CASES)
def test_ms_deform_attn_float32_equals_loop_oracle(name):
    value, levels, locations, weights = make_case(name, torch.float32)
    expected = loop_oracle(value.double(), levels, locations.double(), weights.double())
    output = ms_deform_attn(value, levels, locations, weights)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_ms_deform_attn_gradients_equal_those_of_loop_oracle(name, dtype):
    value, levels, locations, weights = make_case(name, dtype)
    value, locations, weights = value.double(), locations.double(), weights.double()
    differentiable = torch.func.grad(_oracle_sum, argnums=(0, 2, 3))
    expected = differentiable(value, levels, locations, weights)
    found = gradients(
        ms_deform_attn, value.to(dtype), levels, locations.to(dtype), weights.to(dtype)
    )
    tolerance = (
        {"atol": 1e-9, "rtol": 1e-9} if dtype == torch.float64 else {"atol": 1e-3, "rtol": 1e-4}
    )
    for label, one, other in zip(ARGUMENTS, found, expected, strict=True):
        torch.testing.assert_close(
            one.double(), other, **tolerance, msg=lambda m, n=label: f"{n}: {m}"
        )


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_ms_deform_attn_on_cuda_equals_cpu(name):
    case = make_case(name, torch.float32)
    there = [x.cuda() if isinstance(x, Tensor) else x for x in case]
    output = ms_deform_attn(*there)
    assert output.is_cuda
    torch.testing.assert_close(output.cpu(), ms_deform_attn(*case), atol=1e-4, rtol=1e-4)
    found, expected = gradients(ms_deform_attn, *there), gradients(ms_deform_attn, *case)
    for label, one, other in zip(ARGUMENTS, found, expected, strict=True):
        torch.testing.assert_close(
            one.cpu(), other, atol=1e-3, rtol=1e-3, msg=lambda m, n=label: f"{n}: {m}"
        )


def _oracle_sum(value, levels, locations, weights) -> Tensor:
    output = _grid_oracle(value, levels, locations, weights)
    return (
        output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    ).sum()


def _grid_oracle(value, levels, locations, weights) -> Tensor:
    """Sum hat functions over all pixels: no floor, no index, so autograd differentiates it."""
    output, start = 0, 0
    for level, (height, width) in enumerate(levels):
        x = locations[:, :, :, level, :, 0, None] * width - 0.5
        y = locations[:, :, :, level, :, 1, None] * height - 0.5
        hat_x = (1 - (x - torch.arange(width)).abs()).clamp(min=0)
        hat_y = (1 - (y - torch.arange(height)).abs()).clamp(min=0)
        pixels = value[:, start : start + height * width].unflatten(1, (height, width))
        share = weights[:, :, :, level]
        output = output + torch.einsum("bqmp,bqmpy,bqmpx,byxmd->bqmd", share, hat_y, hat_x, pixels)
        start += height * width
    return output.flatten(2)


@pytest.mark.parametrize("name", ["two-levels", "one-pixel-levels"])
def test_ms_deform_attn_gradcheck_float64(name):
    value, levels, locations, weights = make_case(name)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda v, s, a: ms_deform_attn(v, levels, s, a), inputs, nondet_tol=0.0
    )


@pytest.mark.parametrize("name", CASES)
def test_ms_deform_attn_backward_reference_equals_dispatched(name):
    value, shapes, locations, weights = op_arguments(name, torch.float64, False)
    grad = torch.randn(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3]).double()
    found = torch.ops.amodal2._ms_deform_attn_backward(grad, value, shapes, locations, weights)
    expected = module._backward_reference(grad, value, shapes, locations, weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_ms_deform_attn_pixel_centre_returns_pixel():
    value = torch.arange(6.0).view(1, 6, 1, 1)
    centre = torch.tensor([(1 + 0.5) / 3, (1 + 0.5) / 2]).view(1, 1, 1, 1, 1, 2)
    output = ms_deform_attn(value, [(2, 3)], centre, torch.ones(1, 1, 1, 1, 1))
    assert output.item() == pytest.approx(4.0)


@pytest.mark.parametrize("place", [-1e30, -50.0, 1e30, 2.0], ids=str)
def test_ms_deform_attn_far_outside_is_zero(place):
    value, levels, locations, weights = make_case("depth-16", torch.float32)
    locations = torch.full_like(locations, place)
    value = value.fill_(torch.inf)
    output = ms_deform_attn(value, levels, locations, weights)
    assert torch.equal(output, torch.zeros_like(output))


def test_ms_deform_attn_nan_location_gives_nan():
    value, levels, locations, weights = make_case("depth-16", torch.float32)
    locations[0, 1, 2, 0, 0, 0] = torch.nan
    output = ms_deform_attn(value, levels, locations, weights).unflatten(-1, (8, 16))
    assert output[0, 1, 2].isnan().all()
    assert int(output.isnan().sum()) == 16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_ms_deform_attn_non_contiguous_equals_contiguous(dtype):
    value, levels, locations, weights = make_case("depth-16", dtype)
    expected = ms_deform_attn(value, levels, locations, weights)
    strided = value.transpose(1, 3).contiguous().transpose(1, 3)
    flipped = locations.flip(-1).contiguous().flip(-1).transpose(0, 1).contiguous().transpose(0, 1)
    wide = weights.repeat_interleave(2, dim=-1)[..., ::2]
    assert not strided.is_contiguous()
    assert not wide.is_contiguous()
    assert torch.equal(ms_deform_attn(strided, levels, flipped, wide), expected)


def test_ms_deform_attn_expanded_gradient_is_accepted():
    value, levels, locations, weights = make_case("two-levels")
    value.requires_grad_()
    ms_deform_attn(value, levels, locations, weights).sum().backward()
    expected = value.grad.clone()
    value.grad = None
    output = ms_deform_attn(value, levels, locations, weights)
    output.backward(torch.ones_like(output))
    assert torch.equal(value.grad, expected)


@pytest.mark.parametrize("empty", ["batch", "queries", "points", "heads", "depth"])
def test_ms_deform_attn_empty_input_gives_empty_or_zero(empty):
    sizes = {"batch": 2, "queries": 3, "heads": 2, "depth": 4, "points": 2}
    sizes[empty] = 0
    b, q, m, d, p = sizes.values()
    value = torch.randn(b, 6, m, d, requires_grad=True)
    locations = torch.rand(b, q, m, 1, p, 2, requires_grad=True)
    weights = torch.rand(b, q, m, 1, p, requires_grad=True)
    output = ms_deform_attn(value, [(2, 3)], locations, weights)
    assert output.shape == (b, q, m * d)
    assert not output.any()
    output.sum().backward()
    for tensor in (value, locations, weights):
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_ms_deform_attn_short_types_error_at_most_twice_plain_version(dtype):
    value, levels, locations, weights = make_case("depth-32", dtype)
    expected = ms_deform_attn(value.float(), levels, locations, weights)
    output = ms_deform_attn(value, levels, locations, weights)
    plain = _grid_oracle(value, levels, locations.to(dtype), weights.to(dtype))
    assert output.dtype == dtype
    error = (output.float() - expected).abs().max()
    assert error <= 2 * (plain.float() - expected).abs().max()


def test_ms_deform_attn_bfloat16_gradients_have_input_types():
    value, levels, locations, weights = make_case("depth-16", torch.bfloat16)
    found = gradients(ms_deform_attn, value, levels, locations, weights)
    expected = gradients(ms_deform_attn, value.float(), levels, locations, weights)
    assert [x.dtype for x in found] == [torch.bfloat16, torch.float32, torch.float32]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.05, rtol=0.02)


def test_ms_deform_attn_autocast_takes_mixed_types():
    value, levels, locations, weights = make_case("depth-16", torch.float32)
    layer = nn.Linear(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        projected = layer(value)
        output = ms_deform_attn(projected, levels, locations, weights.bfloat16())
    assert projected.dtype == output.dtype == torch.bfloat16
    expected = ms_deform_attn(projected.float(), levels, locations, weights.bfloat16().float())
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0.01)
    output.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["two-levels", "one-pixel-levels"])
def test_ms_deform_attn_opcheck_passes(name, dtype):
    found = torch.library.opcheck(
        torch.ops.amodal2.ms_deform_attn.default, op_arguments(name, dtype, True)
    )
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_ms_deform_attn_backward_opcheck_passes(dtype):
    value, shapes, locations, weights = op_arguments("two-levels", dtype, False)
    grad = torch.randn(2, 3, 8).to(dtype)
    found = torch.library.opcheck(
        torch.ops.amodal2._ms_deform_attn_backward.default,
        (grad, value, shapes, locations, weights),
    )
    assert set(found.values()) == {"SUCCESS"}


def test_ms_deform_attn_compiled_equals_eager():
    value, levels, locations, weights = make_case("two-levels", torch.float32)
    compiled = torch.compile(
        lambda *x: ms_deform_attn(*x) * 2, backend="aot_eager", fullgraph=True, dynamic=True
    )
    eager = gradients(lambda *x: ms_deform_attn(*x) * 2, value, levels, locations, weights)
    found = gradients(compiled, value, levels, locations, weights)
    for one, other in zip(found, eager, strict=True):
        torch.testing.assert_close(one, other)


class _Attend(nn.Module):
    def forward(self, value, locations, weights):
        return ms_deform_attn(value, [(2, 3), (4, 5)], locations, weights)


def test_ms_deform_attn_exported_with_dynamic_batch_runs():
    value, levels, locations, weights = make_case("two-levels", torch.float32)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        _Attend(), (value, locations, weights), dynamic_shapes=({0: batch},) * 3
    )
    assert "amodal2.ms_deform_attn" in program.graph_module.code
    more = [torch.cat([x, x, x]) for x in (value, locations, weights)]
    output = program.module()(*more)
    torch.testing.assert_close(output, ms_deform_attn(more[0], levels, more[1], more[2]))


def test_ms_deform_attn_deterministic_algorithms_same_result():
    """In this mode PyTorch fills fresh memory with NaN, so nothing unwritten may be read."""
    case = make_case("depth-17", torch.float32)
    expected = [ms_deform_attn(*case), *gradients(ms_deform_attn, *case)]
    torch.use_deterministic_algorithms(True)
    try:
        found = [ms_deform_attn(*case), *gradients(ms_deform_attn, *case)]
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["two-levels", "depth-16"])
def test_ms_deform_attn_any_thread_number_same_bits(name):
    if not HAS_C:
        pytest.skip("the reference makes no such promise")
    case = make_case(name, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradients(ms_deform_attn, *case)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for one, other in zip(gradients(ms_deform_attn, *case), expected, strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)


def test_ms_deform_attn_double_backward_raises():
    value, levels, locations, weights = make_case("two-levels")
    value.requires_grad_()
    output = ms_deform_attn(value, levels, locations, weights)
    (grad,) = torch.autograd.grad(output.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="first-order gradients only, got a double backward"):
        grad.sum().backward()


def _changed(key: str):
    value, levels, locations, weights = make_case("two-levels", torch.float32)
    changes = {
        "rank": (value[0], levels, locations, weights),
        "locations": (value, levels, locations[..., 0], weights),
        "levels": (value, levels[:1], locations, weights),
        "empty-level": (value, [(0, 3), (4, 5)], locations, weights),
        "length": (value[:, 1:], levels, locations, weights),
        "heads": (value[:, :, :1], levels, locations, weights),
        "weights": (value, levels, locations, weights[:, :, :, :, :1]),
        "device": (value, levels, locations.to("meta"), weights),
    }
    return changes[key]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rank", r"expected value \[B, S, M, D\], got \[26, 2, 4\]"),
        ("locations", r"expected sampling_locations \[B, Q, M, L, P, 2\], got"),
        ("levels", r"expected value with 6 positions for spatial_shapes \[2, 3\], got 26"),
        ("empty-level", r"at least \(1, 1\) per level, got \[0, 3, 4, 5\]"),
        ("length", r"expected value with 26 positions for spatial_shapes \[2, 3, 4, 5\], got 25"),
        ("heads", r"expected sampling_locations \[2, Q, 1, 2, P, 2\]"),
        ("weights", r"expected attention_weights \[2, 3, 2, 2, 2\] like sampling_locations, got"),
        ("device", r"expected sampling_locations on cpu like value, got meta"),
    ],
)
def test_ms_deform_attn_wrong_argument_raises_value_error(key, message):
    with pytest.raises(ValueError, match="ms_deform_attn: .*" + message):
        ms_deform_attn(*_changed(key))


def test_ms_deform_attn_integer_value_raises_type_error():
    value, levels, locations, weights = make_case("two-levels", torch.float32)
    with pytest.raises(TypeError, match=r"expected value of type float32, .*, got torch\.int32"):
        ms_deform_attn(value.int(), levels, locations, weights)


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rank", r"expected value \[B, S, M, D\], got \[26, 2, 4\]"),
        ("levels", r"expected locations of sizes \[2, 3, 2, 1, 2, 2\], got \[2, 3, 2, 2, 2, 2\]"),
        ("empty-level", "expected positive spatial_shapes with fewer than"),
        ("length", r"expected value with 26 positions .*, got 25"),
        ("weights", r"expected weights of sizes \[2, 3, 2, 2, 2\], got"),
    ],
)
def test_ms_deform_attn_kernel_checks_its_arguments(key, message):
    value, levels, locations, weights = _changed(key)
    shapes = [size for pair in levels for size in pair]
    with pytest.raises(RuntimeError, match="ms_deform_attn: " + message):
        torch.ops.amodal2.ms_deform_attn(value, shapes, locations, weights)


@pytest.mark.slow
def test_ms_deform_attn_without_extension_runs_the_reference():
    """Block the extension in a new interpreter and run this file's checks of the op there."""
    script = """
import sys
sys.modules["amodal2._C"] = None
import pytest, amodal2.ops
assert not amodal2.ops.HAS_C
path = amodal2.ops.op_paths()["ms_deform_attn"]
assert path.path == "CPU: PyTorch reference, CUDA: PyTorch reference", path
chosen = "gradcheck or (equals_loop and dispatched) or (opcheck and two-levels and float32)"
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", chosen, sys.argv[1]]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", script, __file__],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
def test_op_paths_with_extension_names_kernel():
    found = op_paths()["ms_deform_attn"]
    assert found.path.startswith("CPU: C++ kernel")
    assert found.reason == "amodal2._C is loaded"
