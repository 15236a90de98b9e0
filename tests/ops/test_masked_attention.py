"""Masked attention: kernel and reference against an oracle of plain loops."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor, nn

from amodal2.ops import HAS_C, masked_attention, op_paths

module = importlib.import_module("amodal2.ops.masked_attention")

# (batch, queries, keys, heads, depth, keys of the mask, densities of the rows in turn)
CASES = {
    "one-key": (1, 1, 1, 1, 1, 1, (1.0,)),
    "mixed-rows": (2, 5, 7, 2, 4, 7, (0.0, 0.3, 1.0, 0.7)),
    "no-mask": (2, 3, 6, 2, 8, 0, ()),
    "three-frames": (1, 4, 12, 2, 5, 4, (0.4, 0.0, 0.9)),
    "depth-32-sparse": (1, 3, 300, 2, 32, 300, (0.1, 0.02)),
    "depth-32-dense": (1, 30, 150, 1, 32, 150, (0.9, 1.0)),
    "depth-16": (1, 11, 140, 2, 16, 140, (0.05, 0.95)),
    "depth-17": (1, 9, 130, 1, 17, 65, (0.2, 0.8)),
    "depth-70": (1, 2, 10, 1, 70, 10, (0.5, 0.0)),
}
SMALL = ("one-key", "mixed-rows", "no-mask", "three-frames", "depth-70")
ARGUMENTS = ("query", "key", "value")


def make_case(
    name: str, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Draw arguments; the rows of the mask take the densities of the case in turn."""
    batch, queries, keys, heads, depth, period, densities = CASES[name]
    generator = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(batch, n, heads, depth, dtype=torch.float64, generator=generator).to(dtype)
        for n in (queries, keys, keys)
    )
    if not period:
        return query, key, value, None
    draws = torch.rand(batch, queries, period, generator=generator)
    rows = torch.tensor(densities)[torch.arange(queries) % len(densities)]
    return query, key, value, draws < rows[:, None]


def loop_oracle(query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None) -> Tensor:
    """Apply the definition key by key."""
    batch, queries, heads, depth = query.shape
    output = torch.zeros_like(query)
    for b in range(batch):
        for q in range(queries):
            keys = list(range(key.shape[1]))
            if allow is not None and allow[b, q].any():
                keys = [s for s in keys if allow[b, q, s % allow.shape[2]]]
            for m in range(heads):
                scores = [float(query[b, q, m] @ key[b, s, m]) / math.sqrt(depth) for s in keys]
                weights = [math.exp(score - max(scores)) for score in scores]
                for weight, s in zip(weights, keys, strict=True):
                    output[b, q, m] += weight / sum(weights) * value[b, s, m]
    return output


def dense_oracle(query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None) -> Tensor:
    """Attend with a softmax over all scores, differentiable by autograd, in the inputs' type."""
    scores = torch.einsum("bqmd,bsmd->bqms", query, key) / math.sqrt(query.shape[-1])
    if allow is not None:
        mask = allow.repeat(1, 1, key.shape[1] // allow.shape[2])
        mask = mask | ~mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~mask[:, :, None], float("-inf"))
    return torch.einsum("bqms,bsmd->bqmd", scores.softmax(-1), value)


def reference(query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None) -> Tensor:
    """Call the PyTorch reference, whatever is compiled."""
    return module._reference(query, key, value, allow, query.shape[-1] ** -0.5)[0]


def gradients(function, query, key, value, allow) -> list[Tensor]:
    """Differentiate a weighted sum of the output in query, key and value."""
    inputs = [x.detach().clone().requires_grad_() for x in (query, key, value)]
    output = function(*inputs, allow)
    mixture = torch.linspace(-1, 1, output.numel()).view_as(output).to(output)
    (output * mixture).sum().backward()
    return [x.grad for x in inputs]


def assert_gradients_close(found: list[Tensor], expected: list[Tensor], **tolerance) -> None:
    for label, one, other in zip(ARGUMENTS, found, expected, strict=True):
        one, other = one.cpu().double(), other.double()
        torch.testing.assert_close(one, other, **tolerance, msg=lambda m, n=label: f"{n}: {m}")


def op_arguments(name: str, dtype: torch.dtype, requires_grad: bool) -> tuple:
    query, key, value, allow = make_case(name, dtype)
    tensors = [x.requires_grad_(requires_grad) for x in (query, key, value)]
    return *tensors, allow, 0.3


@pytest.mark.parametrize("function", [masked_attention, reference], ids=["dispatched", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_masked_attention_equals_loop_oracle(name, function):
    case = make_case(name)
    torch.testing.assert_close(function(*case), loop_oracle(*case), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_masked_attention_float32_equals_float64(name):
    output = masked_attention(*make_case(name, torch.float32))
    assert output.dtype == torch.float32
    expected = dense_oracle(*(x if x is None else x.to(x) for x in make_case(name)))
    torch.testing.assert_close(output.double(), expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("name", CASES)
def test_masked_attention_gradients_equal_those_of_dense_oracle(name, dtype, tolerance):
    found = gradients(masked_attention, *make_case(name, dtype))
    expected = gradients(dense_oracle, *make_case(name))
    assert_gradients_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", SMALL)
def test_masked_attention_gradcheck_float64(name):
    query, key, value, allow = make_case(name)
    inputs = [x.requires_grad_() for x in (query, key, value)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: masked_attention(q, k, v, allow), inputs, nondet_tol=0.0
    )


@pytest.mark.parametrize("name", CASES)
def test_masked_attention_backward_reference_equals_dispatched(name):
    query, key, value, allow, scale = op_arguments(name, torch.float64, False)
    grad = torch.randn_like(query)
    saved = torch.ops.amodal2.masked_attention(query, key, value, allow, scale)
    arguments = (grad, query, key, value, allow, *saved, scale)
    found = torch.ops.amodal2._masked_attention_backward(*arguments)
    torch.testing.assert_close(found, module._backward_reference(*arguments))


@pytest.mark.parametrize("name", CASES)
def test_masked_attention_logsumexp_equals_reference(name):
    arguments = op_arguments(name, torch.float64, False)
    found = torch.ops.amodal2.masked_attention(*arguments)[1]
    torch.testing.assert_close(found, module._reference(*arguments)[1])


def test_masked_attention_row_without_keys_attends_everywhere():
    query, key, value, allow = make_case("mixed-rows")
    assert not allow[:, 0].any()
    everywhere = masked_attention(query, key, value)
    torch.testing.assert_close(masked_attention(query, key, value, allow)[:, 0], everywhere[:, 0])


@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
def test_masked_attention_large_scores_stay_finite(density):
    query, key, value = (100 * torch.randn(1, n, 2, 32) for n in (20, 400, 400))
    allow = torch.rand(1, 20, 400) < density
    output = masked_attention(query, key, value, allow)
    expected = dense_oracle(query.double(), key.double(), value.double(), allow)
    torch.testing.assert_close(output.double(), expected, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_masked_attention_scores_of_minus_infinity_get_no_weight(density, device):
    query, key, value = (torch.randn(1, n, 1, 32) for n in (4, 200, 200))
    query[..., 0], key[..., 0] = 1e20, 0.0
    key[:, :100, :, 0] = -1e20  # their products overflow
    allow = torch.rand(1, 4, 200) < density
    allow[:, :, 150] = True
    output = masked_attention(*(x.to(device) for x in (query, key, value, allow))).cpu()
    expected = masked_attention(query, key[:, 100:], value[:, 100:], allow[:, :, 100:])
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_masked_attention_nan_key_reaches_only_rows_that_allow_it(density):
    query, key, value = (torch.randn(1, n, 2, 32) for n in (4, 200, 200))
    allow = torch.rand(1, 4, 200) < density
    allow[0, :, 5] = torch.tensor([True, False, True, False])
    key[0, 5, 1] = torch.nan
    output = masked_attention(query, key, value, allow)
    found = output.isnan().all(-1)[0]
    assert found.tolist() == [[False, True], [False, False]] * 2
    assert int(output.isnan().sum()) == 2 * 32


@pytest.mark.parametrize("name", ["depth-16", "depth-17", "depth-32-dense"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_masked_attention_non_contiguous_equals_contiguous(name, dtype):
    query, key, value, allow = make_case(name, dtype)
    views = [
        query.repeat_interleave(2, -1)[..., ::2],
        key.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        torch.cat((value, value), -1)[..., value.shape[-1] :],
    ]
    assert not any(x.is_contiguous() for x in views)
    flipped = allow.transpose(1, 2).contiguous().transpose(1, 2)
    expected = masked_attention(query, key, value, allow)
    output = masked_attention(*views, flipped)
    assert output.is_contiguous()
    torch.testing.assert_close(output, expected)
    turned = [x.detach().requires_grad_() for x in views]
    mixture = torch.linspace(-1, 1, output.numel()).view_as(output).to(dtype)
    grad = mixture.transpose(1, 2).contiguous().transpose(1, 2)
    found = torch.autograd.grad(masked_attention(*turned, flipped), turned, grad)
    torch.testing.assert_close(list(found), gradients(masked_attention, query, key, value, allow))


@pytest.mark.parametrize("name", ["depth-32-sparse", "depth-17"])
def test_masked_attention_misaligned_storage_equals_aligned(name):
    query, key, value, allow = make_case(name, torch.float32)
    expected = gradients(masked_attention, query, key, value, allow)
    shifted = [torch.cat((x.new_zeros(1), x.flatten()))[1:].view_as(x) for x in (query, key, value)]
    output = masked_attention(*(x.requires_grad_() for x in shifted), allow)
    mixture = torch.linspace(-1, 1, output.numel())
    grad = torch.cat((torch.zeros(1), mixture))[1:].view_as(output)
    found = torch.autograd.grad(output, shifted, grad)
    torch.testing.assert_close(list(found), expected)


def test_masked_attention_expanded_heads_and_gradient_are_accepted():
    query, key, value, allow = make_case("depth-16")
    shared = [x[:, :, :1].clone().requires_grad_() for x in (key, value)]
    output = masked_attention(query, *(x.expand(-1, -1, 2, -1) for x in shared), allow)
    output.sum().backward()
    copies = [x.detach().repeat(1, 1, 2, 1).requires_grad_() for x in shared]
    expected = masked_attention(query, *copies, allow)
    torch.testing.assert_close(output, expected)
    expected.backward(torch.ones_like(expected))
    for one, other in zip(shared, copies, strict=True):
        torch.testing.assert_close(one.grad, other.grad.sum(2, keepdim=True))


@pytest.mark.parametrize("empty", ["batch", "queries", "keys", "heads", "depth"])
def test_masked_attention_empty_input_gives_empty_or_zero(empty):
    sizes = {"batch": 2, "queries": 3, "keys": 4, "heads": 2, "depth": 4}
    sizes[empty] = 0
    b, q, s, m, d = sizes.values()
    tensors = [torch.randn(b, n, m, d, requires_grad=True) for n in (q, s, s)]
    output = masked_attention(*tensors, torch.ones(b, q, s, dtype=torch.bool), scale=1.0)
    assert output.shape == (b, q, m, d)
    assert not output.any()
    output.sum().backward()
    for tensor in tensors:
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()


@pytest.mark.parametrize("name", ["depth-32-sparse", "depth-32-dense"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_masked_attention_short_types_error_at_most_twice_plain_version(name, dtype):
    case = make_case(name, dtype)
    wide = [x if x.dtype == torch.bool else x.float() for x in case]
    output = masked_attention(*case)
    assert output.dtype == dtype
    expected, plain = dense_oracle(*wide), dense_oracle(*case)
    error, allowed = ((x.float() - expected).abs().max() for x in (output, plain))
    assert error <= 2 * allowed
    for one, other, stock in zip(
        gradients(masked_attention, *case),
        gradients(dense_oracle, *wide),
        gradients(dense_oracle, *case),
        strict=True,
    ):
        assert one.dtype == dtype
        assert (one.float() - other).abs().max() <= 2 * (stock.float() - other).abs().max()


def test_masked_attention_autocast_casts_mixed_types():
    query, key, value, allow = make_case("depth-16", torch.float32)
    layer = nn.Linear(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        output = masked_attention(query, layer(key), value, allow)
    assert output.dtype == torch.bfloat16
    expected = masked_attention(query, layer(key), value, allow)
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0.02)
    output.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["mixed-rows", "no-mask", "three-frames"])
def test_masked_attention_opcheck_passes(name, dtype):
    found = torch.library.opcheck(
        torch.ops.amodal2.masked_attention.default, op_arguments(name, dtype, True)
    )
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_masked_attention_backward_opcheck_passes(dtype):
    query, key, value, allow, scale = op_arguments("mixed-rows", dtype, False)
    saved = torch.ops.amodal2.masked_attention(query, key, value, allow, scale)
    found = torch.library.opcheck(
        torch.ops.amodal2._masked_attention_backward.default,
        (torch.randn_like(query), query, key, value, allow, *saved, scale),
    )
    assert set(found.values()) == {"SUCCESS"}


def test_masked_attention_compiled_equals_eager():
    case = make_case("three-frames", torch.float32)
    compiled = torch.compile(
        lambda *x: masked_attention(*x) * 2, backend="aot_eager", fullgraph=True, dynamic=True
    )
    eager = gradients(lambda *x: masked_attention(*x) * 2, *case)
    assert_gradients_close(gradients(compiled, *case), eager)


class _Attend(nn.Module):
    def forward(self, query, key, value, allow):
        return masked_attention(query, key, value, allow)


def test_masked_attention_exported_with_dynamic_batch_runs():
    case = make_case("mixed-rows", torch.float32)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(_Attend(), case, dynamic_shapes=({0: batch},) * 4)
    assert "amodal2.masked_attention" in program.graph_module.code
    more = [torch.cat([x, x, x]) for x in case]
    torch.testing.assert_close(program.module()(*more), masked_attention(*more))


@pytest.mark.parametrize("name", ["mixed-rows", "depth-17", "depth-32-dense"])
def test_masked_attention_deterministic_algorithms_same_result(name):
    """In this mode PyTorch fills fresh memory with NaN, so nothing unwritten may be read."""
    case = make_case(name, torch.float32)
    expected = [masked_attention(*case), *gradients(masked_attention, *case)]
    torch.use_deterministic_algorithms(True)
    try:
        found = [masked_attention(*case), *gradients(masked_attention, *case)]
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["depth-16", "depth-32-dense", "depth-17"])
def test_masked_attention_any_thread_number_same_bits(name):
    if not HAS_C:
        pytest.skip("the reference makes no such promise")
    query, key, value, allow = make_case(name, torch.float32)
    shared = [x[:, :, :1].expand_as(x) for x in (key, value)]

    def results() -> list[Tensor]:
        outputs = [masked_attention(query, *shared, allow)]
        outputs.append(masked_attention(query, key, value, allow))
        return outputs + gradients(masked_attention, query, key, value, allow)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = results()
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            found = results()
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)


def test_masked_attention_double_backward_raises():
    query, key, value, allow = make_case("mixed-rows")
    query.requires_grad_()
    output = masked_attention(query, key, value, allow)
    (grad,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="first-order gradients only, got a double backward"):
        grad.sum().backward()


def _changed(key: str) -> tuple:
    query, keys, value, allow = make_case("mixed-rows", torch.float32)
    changes = {
        "query": (query[0], keys, value, allow),
        "key-rank": (query, keys[0], value, allow),
        "heads": (query, keys[:, :, :1], value, allow),
        "value": (query, keys, value[:, 1:], allow),
        "mask-rank": (query, keys, value, allow[0]),
        "queries": (query, keys, value, allow[:, 1:]),
        "period": (query, keys, value, allow[:, :, :3]),
        "device": (query, keys, value.to("meta"), allow),
        "mask-device": (query, keys, value, allow.to("meta")),
        "integers": (query.int(), keys, value, allow),
        "key-type": (query, keys.double(), value, allow),
        "mask-type": (query, keys, value, allow.float()),
    }
    return changes[key]


VALUE_ERRORS = [
    ("query", r"expected query \[B, Q, M, D\], got \[5, 2, 4\]"),
    ("key-rank", r"expected key \[B, S, M, D\], got \[7, 2, 4\]"),
    ("heads", r"expected key \[2, 7, 2, 4\] .*, got \[2, 7, 1, 4\]"),
    ("value", r"expected value \[2, 7, 2, 4\] .*, got \[2, 6, 2, 4\]"),
    ("mask-rank", r"expected allow \[2, 5, P\], got \[5, 7\]"),
    ("queries", r"expected allow \[2, 5, P\], got \[2, 4, 7\]"),
    ("period", r"expected allow for 7 keys or a divisor of them, got one for 3"),
    ("device", r"expected value on cpu like query, got meta"),
    ("mask-device", r"expected allow on cpu like query, got meta"),
]


@pytest.mark.parametrize(("key", "message"), VALUE_ERRORS)
def test_masked_attention_wrong_argument_raises_value_error(key, message):
    with pytest.raises(ValueError, match="masked_attention: " + message):
        masked_attention(*_changed(key))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("integers", r"expected query of type float32, .*, got torch\.int32"),
        ("key-type", r"expected key of type torch\.float32 like query, got torch\.float64"),
        ("mask-type", r"expected allow of type torch\.bool, got torch\.float32"),
    ],
)
def test_masked_attention_wrong_type_raises_type_error(key, message):
    with pytest.raises(TypeError, match="masked_attention: " + message):
        masked_attention(*_changed(key))


@pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("query", ValueError, r"expected query \[B, Q, M, D\], got \[5, 2, 4\]"),
        ("heads", ValueError, r"expected key of sizes \[2, 7, 2, 4\], got \[2, 7, 1, 4\]"),
        ("value", ValueError, r"expected value of sizes \[2, 7, 2, 4\], got \[2, 6, 2, 4\]"),
        ("mask-rank", ValueError, r"expected allow \[B, Q, P\], got \[5, 7\]"),
        ("queries", ValueError, r"expected allow of sizes \[2, 5, 7\], got \[2, 4, 7\]"),
        ("period", ValueError, r"expected allow for 7 keys or a divisor of them, got one for 3"),
        ("integers", TypeError, r"expected query of a floating type, got Int"),
        ("key-type", TypeError, r"expected key of type Float, got Double"),
        ("mask-type", TypeError, r"expected allow of type Bool, got Float"),
    ],
)
def test_masked_attention_kernel_checks_its_arguments(key, error, message):
    with pytest.raises(error, match="masked_attention: " + message):
        torch.ops.amodal2.masked_attention(*_changed(key), 1.0)


def test_masked_attention_is_listed_with_its_path():
    assert ("C++ kernel" in op_paths()["masked_attention"].path) == HAS_C


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_masked_attention_on_cuda_equals_float64_reference(name):
    expected = [reference(*make_case(name)), *gradients(dense_oracle, *make_case(name))]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        there = [x if x is None else x.cuda() for x in make_case(name, dtype)]
        output = masked_attention(*there)
        assert output.is_cuda
        torch.testing.assert_close(output.cpu().double(), expected[0], atol=tolerance, rtol=0)
        found = gradients(masked_attention, *there)
        assert_gradients_close(found, expected[1:], atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("depth", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_masked_attention_on_cuda_short_types_error_at_most_twice_plain_version(dtype, depth):
    case = [torch.randn(2, n, 4, depth, device="cuda", dtype=dtype) for n in (30, 900, 900)]
    allow = torch.rand(2, 30, 300, device="cuda") < torch.linspace(0, 1, 30, device="cuda")[:, None]
    wide = dense_oracle(*(x.float() for x in case), allow)
    error = (masked_attention(*case, allow).float() - wide).abs().max()
    assert error <= 2 * (dense_oracle(*case, allow).float() - wide).abs().max()


@pytest.mark.gpu
def test_masked_attention_on_cuda_is_deterministic():
    case = [torch.randn(1, n, 8, 32, device="cuda") for n in (100, 5000, 5000)]
    allow = torch.rand(1, 100, 5000, device="cuda") < 0.1
    expected = gradients(masked_attention, *case, allow)
    for one, other in zip(gradients(masked_attention, *case, allow), expected, strict=True):
        assert torch.equal(one, other)
