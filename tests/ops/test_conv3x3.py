"""3x3 convolution: kernel and reference against plain loops, its gradients against differences."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.ops import conv3x3
from amodal2.ops.conv3x3 import _backward_reference, _reference

SHAPES = {
    "one-pixel": (1, 32, 33, 1, 1),
    "one-tile": (2, 32, 32, 4, 4),
    "odd": (2, 35, 37, 5, 7),
    "two-groups": (1, 32, 32, 64, 66),
    "no-images": (0, 32, 32, 4, 4),
}


@pytest.fixture(params=["dispatched", "reference"])
def implementation(request) -> Iterator[str]:
    """Run a test as it comes, and with the PyTorch references in place of what is compiled."""
    with contextlib.ExitStack() as stack:
        if request.param == "reference":
            library = stack.enter_context(torch.library._scoped_library("amodal2", "IMPL"))
            library.impl("conv3x3", _reference, "CPU", allow_override=True)
            library.impl("_conv3x3_backward", _backward_reference, "CPU", allow_override=True)
        yield request.param


def make_case(shape: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias."""
    n, c, k, h, w = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    sizes = ((n, c, h, w), (k, c, 3, 3), (k,))
    drawn = [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]
    return drawn[0], drawn[1], drawn[2]


def loop_oracle(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Sum over the nine places of the kernel, each a product of matrices."""
    n, _, h, w = x.shape
    total = bias[None, :, None, None].expand(n, -1, h, w).clone()
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        to_y, to_x = slice(max(0, -dy), h - max(0, dy)), slice(max(0, -dx), w - max(0, dx))
        from_y, from_x = slice(max(0, dy), h + min(0, dy)), slice(max(0, dx), w + min(0, dx))
        part = torch.einsum("nchw,kc->nkhw", x[:, :, from_y, from_x], weight[:, :, dy + 1, dx + 1])
        total[:, :, to_y, to_x] += part
    return total


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("shape", SHAPES)
def test_conv3x3_equals_loop_oracle(shape: str) -> None:
    case = make_case(shape)
    output = conv3x3(*case)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, loop_oracle(*case), atol=1e-12, rtol=1e-10)
    plain = conv3x3(case[0], case[1])
    torch.testing.assert_close(plain, loop_oracle(*case[:2], 0 * case[2]), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("shape", ["odd", "two-groups"])
def test_conv3x3_float32_is_near_float64(shape: str) -> None:
    case = make_case(shape)
    output = conv3x3(*(x.float() for x in case))
    expected = loop_oracle(*case)
    assert output.dtype == torch.float32
    assert (output - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("shape", ["odd", "two-groups", "no-images"])
def test_conv3x3_gradients_equal_those_of_the_loop_oracle(shape: str) -> None:
    def gradients(run) -> tuple[Tensor, ...]:
        case = [x.requires_grad_() for x in make_case(shape)]
        output = run(*case)
        weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
        return torch.autograd.grad(output, case, weights)

    torch.testing.assert_close(gradients(conv3x3), gradients(loop_oracle), atol=1e-9, rtol=1e-9)


def test_conv3x3_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    sizes = ((1, 2, 5, 3), (3, 2, 3, 3), (3,))
    case = [torch.randn(s, generator=generator, dtype=torch.float64) for s in sizes]
    inputs = [x.requires_grad_() for x in case]
    assert torch.autograd.gradcheck(torch.ops.amodal2.conv3x3, inputs)


@pytest.mark.parametrize("wanted", list(itertools.product((False, True), repeat=3)), ids=str)
def test_conv3x3_only_wanted_gradients(wanted: tuple[bool, bool, bool]) -> None:
    case = [x.requires_grad_(need) for x, need in zip(make_case("odd"), wanted, strict=True)]
    output = conv3x3(*case)
    assert output.requires_grad == any(wanted)
    if any(wanted):
        output.sum().backward()
    assert tuple(x.grad is not None for x in case) == wanted


def test_conv3x3_any_strides_give_the_same() -> None:
    x, weight, bias = make_case("odd")
    expected = conv3x3(x, weight, bias)
    strided = torch.stack((x, x), dim=-1)[..., 0]
    for other in (strided, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        torch.testing.assert_close(conv3x3(other, weight.flip(1).flip(1), bias), expected)


def test_conv3x3_threads_give_the_same() -> None:
    case = make_case("two-groups", torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = conv3x3(*case)
        torch.set_num_threads(2)
        two = conv3x3(*case)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(8, torch.float32), (32, torch.bfloat16)], ids=["few", "short"]
)
def test_conv3x3_what_the_op_does_not_take_is_pytorchs(channels, dtype) -> None:
    x = torch.randn(1, channels, 4, 5, dtype=dtype)
    weight = torch.randn(channels, channels, 3, 3, dtype=dtype)
    assert torch.equal(conv3x3(x, weight), F.conv2d(x, weight, padding=1))


def test_conv3x3_autocast_gives_its_type() -> None:
    x, weight, bias = make_case("odd", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3(x, weight, bias).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({0: (32, 4, 4)}, ValueError, r"expected input \[N, C, H, W\], got \[32, 4, 4\]"),
        ({1: (32, 31, 3, 3)}, ValueError, r"expected weight \[K, 32, 3, 3\].*got \[32, 31, 3, 3\]"),
        ({1: (32, 32, 1, 1)}, ValueError, r"expected weight \[K, 32, 3, 3\]"),
        ({2: (31,)}, ValueError, r"expected bias \[32\] \(K of weight\), got \[31\]"),
        ({1: torch.float64}, TypeError, "expected weight of type torch.float32.*torch.float64"),
        ({2: torch.float64}, TypeError, "expected bias of type torch.float32.*torch.float64"),
    ],
)
def test_conv3x3_wrong_arguments_raise(changes, error, message) -> None:
    case = list(make_case("one-tile", torch.float32))
    for index, change in changes.items():
        case[index] = torch.ones(change) if isinstance(change, tuple) else case[index].to(change)
    with pytest.raises(error, match=message):
        conv3x3(*case)
    with pytest.raises(error, match="conv3x3: expected"):
        torch.ops.amodal2.conv3x3(*case)


def test_conv3x3_double_backward_raises() -> None:
    x, weight, bias = (t.requires_grad_() for t in make_case("one-tile"))
    (grad,) = torch.autograd.grad(conv3x3(x, weight, bias).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="conv3x3: expected first-order gradients only"):
        grad.sum().backward()


@pytest.mark.usefixtures("implementation")
def test_conv3x3_opcheck() -> None:
    x, weight, bias = (t.requires_grad_() for t in make_case("odd", torch.float32))
    torch.library.opcheck(torch.ops.amodal2.conv3x3.default, (x, weight, bias))
    plain = [t.detach() for t in (torch.ones(2, 37, 5, 7), x, weight)]
    for needs in ([True, True, True], [False, True, False]):
        torch.library.opcheck(torch.ops.amodal2._conv3x3_backward.default, (*plain, needs))
