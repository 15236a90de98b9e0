"""Multi-scale deformable attention: kernel and reference against an oracle of plain loops."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, ms_deform_attn, op_paths
from tests.ops.deform_oracles import (
    CASES,
    gradients,
    grid_oracle,
    loop_oracle,
    make_case,
    mixture_of,
)

module = importlib.import_module("amodal2.ops.ms_deform_attn")
ROOT = Path(__file__).resolve().parents[2]

ARGUMENTS = ("value", "sampling_locations", "attention_weights")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PATH = op_paths()["ms_deform_attn"].path
HAS_KERNEL = {"cpu": "C++ kernel" in PATH, "cuda": "CUDA kernel" in PATH}
needs_cuda_kernel = pytest.mark.skipif(not HAS_KERNEL["cuda"], reason="no CUDA kernel is built")
on_devices = pytest.mark.parametrize("device", DEVICES)


def reference(value, levels, locations, weights) -> Tensor:
    """Call the PyTorch reference, whatever is compiled."""
    return module._reference(value, [size for pair in levels for size in pair], locations, weights)


def op_arguments(name: str, dtype: torch.dtype, requires_grad: bool, device: str = "cpu") -> tuple:
    value, levels, locations, weights = make_case(name, dtype, device)
    tensors = [x.requires_grad_(requires_grad) for x in (value, locations, weights)]
    return tensors[0], [size for pair in levels for size in pair], tensors[1], tensors[2]


@pytest.mark.parametrize("function", [ms_deform_attn, reference], ids=["dispatched", "reference"])
@pytest.mark.parametrize("name", CASES)
@on_devices
def test_ms_deform_attn_equals_loop_oracle(name, function, device):
    case = make_case(name, device=device)
    torch.testing.assert_close(function(*case), loop_oracle(*case))


@pytest.mark.parametrize("name", CASES)
@on_devices
def test_ms_deform_attn_float32_equals_loop_oracle(name, device):
    value, levels, locations, weights = make_case(name, torch.float32, device)
    expected = loop_oracle(value.double(), levels, locations.double(), weights.double())
    output = ms_deform_attn(value, levels, locations, weights)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
@on_devices
def test_ms_deform_attn_gradients_equal_those_of_loop_oracle(name, dtype, device):
    value, levels, locations, weights = make_case(name, dtype, device)
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


def _oracle_sum(value, levels, locations, weights) -> Tensor:
    output = grid_oracle(value, levels, locations, weights)
    return (output * mixture_of(output)).sum()


@pytest.mark.parametrize("name", ["two-levels", "one-pixel-levels"])
@on_devices
def test_ms_deform_attn_gradcheck_float64(name, device):
    value, levels, locations, weights = make_case(name, device=device)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda v, s, a: ms_deform_attn(v, levels, s, a),
        inputs,
        nondet_tol=0.0 if device == "cpu" else 1e-12,
    )


@pytest.mark.parametrize("name", CASES)
@on_devices
def test_ms_deform_attn_backward_reference_equals_dispatched(name, device):
    value, shapes, locations, weights = op_arguments(name, torch.float64, False, device)
    grad = torch.randn_like(value.new_empty(len(value), locations.shape[1], value[0, 0].numel()))
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
@on_devices
def test_ms_deform_attn_far_outside_is_zero(place, device):
    value, levels, locations, weights = make_case("depth-16", torch.float32, device)
    locations = torch.full_like(locations, place)
    value = value.fill_(torch.inf)
    output = ms_deform_attn(value, levels, locations, weights)
    assert torch.equal(output, torch.zeros_like(output))


@on_devices
def test_ms_deform_attn_nan_location_gives_nan(device):
    value, levels, locations, weights = make_case("depth-16", torch.float32, device)
    locations[0, 1, 2, 0, 0, 0] = torch.nan
    output = ms_deform_attn(value, levels, locations, weights).unflatten(-1, (8, 16))
    assert output[0, 1, 2].isnan().all()
    assert int(output.isnan().sum()) == 16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@on_devices
def test_ms_deform_attn_non_contiguous_equals_contiguous(dtype, device):
    value, levels, locations, weights = make_case("depth-16", dtype, device)
    expected = ms_deform_attn(value, levels, locations, weights)
    strided = value.transpose(1, 3).contiguous().transpose(1, 3)
    flipped = locations.flip(-1).contiguous().flip(-1).transpose(0, 1).contiguous().transpose(0, 1)
    wide = weights.repeat_interleave(2, dim=-1)[..., ::2]
    assert not strided.is_contiguous()
    assert not wide.is_contiguous()
    assert torch.equal(ms_deform_attn(strided, levels, flipped, wide), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@on_devices
def test_ms_deform_attn_memory_not_aligned_to_packs_same_result(dtype, device):
    value, *rest = make_case("depth-32", dtype, device)
    shifted = torch.cat([value.new_zeros(1), value.flatten()])[1:].view_as(value)
    assert shifted.is_contiguous()
    assert shifted.data_ptr() % 16
    torch.testing.assert_close(ms_deform_attn(shifted, *rest), ms_deform_attn(value, *rest))
    output = ms_deform_attn(value.requires_grad_(), *rest)
    grad = torch.cat([output.new_zeros(1), mixture_of(output).flatten()])[1:].view_as(output)
    (found,) = torch.autograd.grad(output, value, grad, retain_graph=True)
    (expected,) = torch.autograd.grad(output, value, grad.clone())
    torch.testing.assert_close(found, expected)


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
@on_devices
def test_ms_deform_attn_empty_input_gives_empty_or_zero(empty, device):
    sizes = {"batch": 2, "queries": 3, "heads": 2, "depth": 4, "points": 2}
    sizes[empty] = 0
    b, q, m, d, p = sizes.values()
    value = torch.randn(b, 6, m, d, device=device, requires_grad=True)
    locations = torch.rand(b, q, m, 1, p, 2, device=device, requires_grad=True)
    weights = torch.rand(b, q, m, 1, p, device=device, requires_grad=True)
    output = ms_deform_attn(value, [(2, 3)], locations, weights)
    assert output.shape == (b, q, m * d)
    assert not output.any()
    output.sum().backward()
    for tensor in (value, locations, weights):
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@on_devices
def test_ms_deform_attn_short_types_error_at_most_twice_plain_version(dtype, device):
    value, levels, locations, weights = make_case("depth-32", dtype, device)
    expected = ms_deform_attn(value.float(), levels, locations, weights)
    output = ms_deform_attn(value, levels, locations, weights)
    plain = grid_oracle(value, levels, locations.to(dtype), weights.to(dtype))
    assert output.dtype == dtype
    error = (output.float() - expected).abs().max()
    assert error <= 2 * (plain.float() - expected).abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@on_devices
def test_ms_deform_attn_gradients_of_short_types_have_input_types(dtype, device):
    value, levels, locations, weights = make_case("depth-16", dtype, device)
    found = gradients(ms_deform_attn, value, levels, locations, weights)
    expected = gradients(ms_deform_attn, value.float(), levels, locations, weights)
    assert [x.dtype for x in found] == [dtype, torch.float32, torch.float32]
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
@on_devices
def test_ms_deform_attn_opcheck_passes(name, dtype, device):
    found = torch.library.opcheck(
        torch.ops.amodal2.ms_deform_attn.default, op_arguments(name, dtype, True, device)
    )
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@on_devices
def test_ms_deform_attn_backward_opcheck_passes(dtype, device):
    value, shapes, locations, weights = op_arguments("two-levels", dtype, False, device)
    grad = torch.randn(2, 3, 8).to(value)
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


@pytest.fixture
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["depth-17", "depth-32"])
@on_devices
def test_ms_deform_attn_deterministic_algorithms_equal_reference(name, dtype, device):
    """In this mode PyTorch fills fresh memory with NaN, so nothing unwritten may be read."""
    case = make_case(name, dtype, device)
    found = [ms_deform_attn(*case), *gradients(ms_deform_attn, *case)]
    plain = [x.cpu().double() if isinstance(x, Tensor) else x for x in case]
    expected = [grid_oracle(*plain), *gradients(grid_oracle, *plain)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu().double(), other, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("_deterministic")
@on_devices
def test_ms_deform_attn_deterministic_algorithms_same_bits_again(device):
    """Many queries meet in a few pixels, so that their order matters to sums in floating point."""
    value = torch.randn(1, 4, 2, 16, device=device)
    locations = torch.rand(1, 4096, 2, 1, 4, 2, device=device)
    weights = torch.rand(1, 4096, 2, 1, 4, device=device)
    first, *others = (
        gradients(ms_deform_attn, value, [(2, 2)], locations, weights)[0] for _ in range(4)
    )
    assert first.any()
    assert all(torch.equal(first, other) for other in others)


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


def _changed(key: str, device: str = "cpu"):
    value, levels, locations, weights = make_case("two-levels", torch.float32, device)
    changes = {
        "rank": (value[0], levels, locations, weights),
        "locations": (value, levels, locations[..., 0], weights),
        "levels": (value, levels[:1], locations, weights),
        "empty-level": (value, [(0, 3), (4, 5)], locations, weights),
        "length": (value[:, 1:], levels, locations, weights),
        "heads": (value[:, :, :1], levels, locations, weights),
        "weights": (value, levels, locations, weights[:, :, :, :, :1]),
        "device": (value, levels, locations.to("meta"), weights),
        "mixed-devices": (value.cpu(), levels, locations, weights),
        "value-type": (value.int(), levels, locations, weights),
        "locations-type": (value, levels, locations.int(), weights),
        "weights-type": (value, levels, locations, weights.int()),
    }
    return changes[key]


@pytest.mark.parametrize(
    ("key", "error", "message", "of_kernel"),
    [
        (
            "rank",
            ValueError,
            r"value \[B, S, M, D\], got \[26, 2, 4\]",
            r"value \[B, S, M, D\], got",
        ),
        ("locations", ValueError, r"sampling_locations \[B, Q, M, L, P, 2\], got", None),
        ("levels", ValueError, "value with 6 positions .*, got 26", "sampling_locations of sizes"),
        (
            "empty-level",
            ValueError,
            r"at least \(1, 1\) .*, got \[0, 3, 4, 5\]",
            "positive spatial",
        ),
        ("length", ValueError, "26 positions .*, got 25", "value with 26 positions .*, got 25"),
        ("heads", ValueError, r"sampling_locations \[2, Q, 1, 2, P, 2\]", r"of sizes \[2, 3, 1, 2"),
        (
            "weights",
            ValueError,
            r"attention_weights \[2, 3, 2, 2, 2\]",
            "attention_weights of sizes",
        ),
        ("device", ValueError, "sampling_locations on c.* like value, got meta", None),
        ("value-type", TypeError, r"float32, .*, got torch\.int32", "float32, .*, got Int"),
        (
            "locations-type",
            TypeError,
            "sampling_locations of .*int32",
            "sampling_.* Float, got Int",
        ),
        ("weights-type", TypeError, "attention_weights of .*int32", "attention_.* Float, got Int"),
    ],
)
@on_devices
def test_ms_deform_attn_wrong_argument_same_error_everywhere(
    key, error, message, of_kernel, device
):
    value, levels, locations, weights = _changed(key, device)
    with pytest.raises(error, match="ms_deform_attn: expected .*" + message):
        ms_deform_attn(value, levels, locations, weights)
    if HAS_KERNEL[device] and of_kernel:
        shapes = [size for pair in levels for size in pair]
        with pytest.raises(error, match="ms_deform_attn: expected .*" + of_kernel):
            torch.ops.amodal2.ms_deform_attn(value, shapes, locations, weights)


@pytest.mark.gpu
@needs_cuda_kernel
def test_ms_deform_attn_mixed_devices_raise_value_error():
    value, levels, locations, weights = _changed("mixed-devices", "cuda")
    with pytest.raises(ValueError, match="expected sampling_locations on cpu like value, got cuda"):
        ms_deform_attn(value, levels, locations, weights)
    shapes = [size for pair in levels for size in pair]
    with pytest.raises(ValueError, match="expected value on a CUDA device, got it on cpu"):
        torch.ops.amodal2.ms_deform_attn(value, shapes, locations, weights)


@pytest.mark.gpu
@needs_cuda_kernel
def test_ms_deform_attn_more_levels_than_cuda_takes_raises_value_error():
    value, weights = torch.rand(1, 129, 1, 1).cuda(), torch.rand(1, 1, 1, 129, 1).cuda()
    locations = torch.rand(1, 1, 1, 129, 1, 2).cuda()
    with pytest.raises(ValueError, match="expected at most 128 levels on CUDA, got 129"):
        ms_deform_attn(value, [(1, 1)] * 129, locations, weights)


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
