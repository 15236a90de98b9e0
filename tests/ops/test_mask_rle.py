"""Run-length coding: kernel and reference against pycocotools and an oracle of plain loops."""

from __future__ import annotations

import importlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from amodal2.ops import HAS_C, mask_rle, mask_rle_decode

module = importlib.import_module("amodal2.ops.mask_rle")

needs_kernel = pytest.mark.skipif(not HAS_C, reason="amodal2._C is not built")
SIZES = [(1, 1), (1, 7), (9, 1), (8, 8), (7, 17), (64, 16), (63, 65), (65, 63), (130, 40), (200, 3)]
DENSITIES = [0.0, 0.03, 0.5, 0.97, 1.0]


def encode_reference(masks: Tensor, frame, origin) -> tuple[Tensor, Tensor]:
    return module._encode_reference(masks, frame, origin)


def decode_reference(text: Tensor, offsets: Tensor, size) -> Tensor:
    return module._decode_reference(text, offsets, size)


ENCODERS = pytest.mark.parametrize(
    "encode", [torch.ops.amodal2.mask_rle, encode_reference], ids=["dispatched", "reference"]
)
DECODERS = pytest.mark.parametrize(
    "decode", [torch.ops.amodal2.mask_rle_decode, decode_reference], ids=["dispatched", "reference"]
)


def draw_masks(size: tuple[int, int], count: int = 5) -> Tensor:
    """Draw noise of several densities, with an upright and a lying box in some."""
    masks = torch.rand(count, *size) < torch.tensor(DENSITIES[:count]).view(-1, 1, 1)
    masks[1, :, size[1] // 3 : size[1] // 2] = True
    masks[2, size[0] // 4 : size[0] // 2] = False
    return masks


def texts_of(encoded: tuple[Tensor, Tensor]) -> list[bytes]:
    text, offsets = encoded
    joined, bounds = text.numpy().tobytes(), offsets.tolist()
    return [joined[a:b] for a, b in pairwise(bounds)]


def coco_texts(masks: Tensor) -> list[bytes]:
    return [coco_mask.encode(np.asfortranarray(mask.byte().numpy()))["counts"] for mask in masks]


def loop_oracle(mask: Tensor) -> bytes:
    """Write the text of one mask by the definition, pixel by pixel and digit by digit."""
    runs, value, length = [], 0, 0
    for pixel in mask.T.flatten().tolist():
        if bool(pixel) != bool(value):
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    text = []
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        while True:
            group, number = number & 31, number >> 5
            done = number == (-1 if group & 16 else 0)
            text.append(48 + group + (0 if done else 32))
            if done:
                break
    return bytes(text)


@ENCODERS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_rle_equals_pycocotools_and_loop_oracle(size, encode):
    masks = draw_masks(size)
    found = texts_of(encode(masks, size, (0, 0)))
    assert found == coco_texts(masks)
    assert found == [loop_oracle(mask) for mask in masks]


@ENCODERS
def test_mask_rle_large_masks_equal_pycocotools(encode):
    rows, columns = torch.arange(480.0)[:, None], torch.arange(864.0)
    disc = (rows - 200) ** 2 + (columns - 300) ** 2 < 150**2
    ring = disc & ~((rows - 200) ** 2 + (columns - 300) ** 2 < 50**2)
    corner = (rows > 478) & (columns > 862)
    masks = torch.stack([disc, ring, corner, torch.rand(480, 864) < 0.5])
    assert texts_of(encode(masks, (480, 864), (0, 0))) == coco_texts(masks)


def test_mask_rle_returns_coco_dicts():
    masks = draw_masks((13, 17))
    found = mask_rle(masks)
    assert [rle["size"] for rle in found] == [[13, 17]] * 5
    assert [rle["counts"].encode() for rle in found] == coco_texts(masks)


@ENCODERS
def test_mask_rle_any_nonzero_value_is_foreground(encode):
    values = torch.tensor([[[0, 1, 255], [2, 0, 128]]], dtype=torch.uint8)
    assert texts_of(encode(values, (2, 3), (0, 0))) == coco_texts(values != 0)


@ENCODERS
@pytest.mark.parametrize("size", [(7, 17), (65, 63), (130, 40)], ids=str)
def test_mask_rle_non_contiguous_masks_equal_contiguous(size, encode):
    masks = draw_masks(size)
    expected = texts_of(encode(masks, size, (0, 0)))
    by_columns = masks.transpose(1, 2).contiguous().transpose(1, 2)
    wide = masks.repeat_interleave(2, dim=2)[:, :, ::2]
    by_mask = masks.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for other in (by_columns, wide, by_mask):
        assert not other.is_contiguous()
        assert texts_of(encode(other, size, (0, 0))) == expected


@ENCODERS
@pytest.mark.parametrize("box", [(0, 0, 70, 9), (3, 2, 60, 5), (0, 4, 70, 5), (66, 8, 4, 1)])
def test_mask_rle_box_in_frame_equals_whole_frame(box, encode):
    top, left, height, width = box
    boxes = draw_masks((height, width))
    frames = torch.zeros(5, 70, 9, dtype=torch.bool)
    frames[:, top : top + height, left : left + width] = boxes
    assert texts_of(encode(boxes, (70, 9), (top, left))) == coco_texts(frames)
    found = mask_rle(boxes, frame=(70, 9), origin=(top, left))
    assert torch.equal(mask_rle_decode(found), frames)


@ENCODERS
@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0), (1, 0, 0)], ids=str)
def test_mask_rle_empty_input_gives_empty_masks(shape, encode):
    masks = torch.zeros(shape, dtype=torch.bool)
    text, offsets = encode(masks, shape[1:], (0, 0))
    assert (text.dtype, offsets.dtype) == (torch.uint8, torch.int64)
    assert texts_of((text, offsets)) == [b"0"] * shape[0]
    assert torch.equal(torch.ops.amodal2.mask_rle_decode(text, offsets, shape[1:]), masks)
    assert torch.equal(decode_reference(text, offsets, shape[1:]), masks)


@DECODERS
@pytest.mark.parametrize("size", [*SIZES, (480, 864)], ids=str)
def test_mask_rle_decode_gives_the_masks_of_pycocotools_texts(size, decode):
    masks = draw_masks(size)
    texts = coco_texts(masks)
    offsets = torch.tensor([0, *np.cumsum([len(text) for text in texts])])
    text = torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8)
    found = decode(text, offsets, size)
    assert found.is_contiguous()
    assert found.dtype == torch.bool
    assert torch.equal(found, masks)


def test_mask_rle_decode_runs_of_no_pixels_are_accepted():
    rle = coco_mask.frPyObjects({"size": [3, 3], "counts": [1, 3, 0, 2, 3]}, 3, 3)
    expected = torch.tensor([[0, 1, 0], [1, 1, 0], [1, 1, 0]], dtype=torch.bool)
    assert torch.equal(mask_rle_decode([rle])[0], expected)


def broken_texts() -> dict[str, tuple[bytes, str]]:
    good = coco_texts(draw_masks((6, 9))[2:3])[0]
    return {
        "truncated": (good[:-1], "sum to 54 pixels, got|cut inside a number"),
        "more-pixels": (good + b"1", "sum to 54 pixels, got"),
        "cut": (b"hello", "cut inside a number"),
        "foreign": (b"~" + good, "characters '0' to 'o', got another"),
        "low-char": (b" " + good, "characters '0' to 'o', got another"),
        "negative": (b"O3", "a negative one"),
        "long-number": (b"o" * 20 + b"0", r"runs below 2\^34, got a longer number"),
        "empty": (b"", "sum to 54 pixels, got 0"),
    }


@DECODERS
@pytest.mark.parametrize("key", broken_texts())
def test_mask_rle_decode_broken_text_raises_value_error(key, decode):
    good = coco_texts(draw_masks((6, 9))[:1])[0]
    broken, message = broken_texts()[key]
    text = torch.frombuffer(bytearray(good + broken + good), dtype=torch.uint8)
    sizes = [len(good), len(good) + len(broken), 2 * len(good) + len(broken)]
    with pytest.raises(ValueError, match=rf"mask_rle_decode: expected .*({message}).*\(mask 1\)"):
        decode(text, torch.tensor([0, *sizes]), (6, 9))


@DECODERS
def test_mask_rle_decode_random_bytes_never_crash(decode):
    generator = torch.Generator().manual_seed(3)
    refused = 0
    for _ in range(200):
        length = int(torch.randint(0, 12, (), generator=generator))
        text = torch.randint(48, 112, (length,), generator=generator).byte()
        try:
            masks = decode(text, torch.tensor([0, length]), (3, 5))
            runs = texts_of(torch.ops.amodal2.mask_rle(masks, (3, 5), (0, 0)))
            assert runs == coco_texts(masks)
        except ValueError:
            refused += 1
    assert refused > 150


@DECODERS
@pytest.mark.parametrize(
    "offsets", [[0, 1], [1, 2], [0, 5, 2], [0, -1, 2], [0, 3]], ids=lambda x: str(x)
)
def test_mask_rle_decode_wrong_offsets_raise_value_error(offsets, decode):
    text = torch.tensor([57, 57], dtype=torch.uint8)
    with pytest.raises(ValueError, match="expected offsets that rise from 0 to the 2 characters"):
        decode(text, torch.tensor(offsets), (3, 3))


def test_mask_rle_decode_wrapper_checks_sizes():
    rles = [*mask_rle(torch.ones(1, 2, 3).bool()), *mask_rle(torch.ones(1, 3, 2).bool())]
    with pytest.raises(ValueError, match=r"expected size \[2, 3\], got \[3, 2\] \(mask 1\)"):
        mask_rle_decode(rles)
    with pytest.raises(ValueError, match=r"expected size \[3, 2\], got \[2, 3\] \(mask 0\)"):
        mask_rle_decode(rles, (3, 2))
    with pytest.raises(ValueError, match="expected at least one mask or a size, got neither"):
        mask_rle_decode([])
    assert mask_rle_decode([], (3, 2)).shape == (0, 3, 2)


def test_mask_rle_decode_takes_bytes_and_refuses_other_characters():
    (rle,) = mask_rle(torch.ones(1, 2, 3).bool())
    assert mask_rle_decode([{"size": [2, 3], "counts": rle["counts"].encode()}]).all()
    with pytest.raises(ValueError, match="expected RLE counts of the characters '0' to 'o'"):
        mask_rle_decode([{"size": [2, 3], "counts": "é6"}])


BOX = torch.ones(1, 4, 5, dtype=torch.bool)
ENCODE_ERRORS = {
    "rank": (BOX[0], (4, 5), (0, 0), ValueError, r"expected masks \[N, H, W\], got \[4, 5\]"),
    "dtype": (BOX.float(), (4, 5), (0, 0), TypeError, "expected masks of type bool or uint8, got"),
    "low": (BOX, (4, 5), (1, 0), ValueError, "expected masks of 4 x 5 pixels inside the frame"),
    "right": (BOX, (9, 5), (0, 1), ValueError, "expected masks of 4 x 5 pixels inside the frame"),
    "origin": (BOX, (9, 9), (0, -1), ValueError, "expected origin as two numbers of at least 0"),
    "frame": (BOX, (4, 5, 6), (0, 0), ValueError, "expected frame as two numbers of at least 0"),
    "pixels": (BOX, (2**17, 2**17), (0, 0), ValueError, r"frame with fewer than 2\^34 pixels"),
}


@ENCODERS
@pytest.mark.parametrize("key", ENCODE_ERRORS)
def test_mask_rle_wrong_argument_raises(key, encode):
    masks, frame, origin, error, message = ENCODE_ERRORS[key]
    with pytest.raises(error, match="mask_rle: .*" + message):
        encode(masks, frame, origin)


def test_mask_rle_wrapper_names_wrong_rank():
    with pytest.raises(ValueError, match=r"mask_rle: expected masks \[N, H, W\], got \[4, 5\]"):
        mask_rle(BOX[0])


TEXT, OFFSETS = torch.zeros(2, dtype=torch.uint8), torch.tensor([0, 2])
DECODE_ERRORS = {
    "text-rank": (TEXT[None], OFFSETS, (2, 3), ValueError, "expected text "),
    "offsets-rank": (TEXT, OFFSETS[None], (2, 3), ValueError, "expected offsets "),
    "text-type": (TEXT.int(), OFFSETS, (2, 3), TypeError, "expected text of type"),
    "offsets-type": (TEXT, OFFSETS.int(), (2, 3), TypeError, "expected offsets of type"),
    "size": (TEXT, OFFSETS, (2, -3), ValueError, "expected size as two numbers of at least 0"),
    "pixels": (TEXT, OFFSETS, (2**20, 2**20), ValueError, r"fewer than 2\^34 pixels"),
    "no-offsets": (TEXT, OFFSETS[:0], (2, 3), ValueError, "expected "),
}


@DECODERS
@pytest.mark.parametrize("key", DECODE_ERRORS)
def test_mask_rle_decode_wrong_argument_raises(key, decode):
    text, offsets, size, error, message = DECODE_ERRORS[key]
    with pytest.raises(error, match="mask_rle_decode: .*" + message):
        decode(text, offsets, size)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8], ids=str)
def test_mask_rle_opcheck_passes(dtype):
    masks = draw_masks((7, 17)).to(dtype)
    arguments = [(masks, (7, 17), (0, 0)), (masks[:0], (7, 17), (0, 0)), (masks, (9, 20), (2, 1))]
    for case in arguments:
        found = torch.library.opcheck(torch.ops.amodal2.mask_rle.default, case)
        assert set(found.values()) == {"SUCCESS"}


def test_mask_rle_decode_opcheck_passes():
    text, offsets = torch.ops.amodal2.mask_rle(draw_masks((7, 17)), (7, 17), (0, 0))
    found = torch.library.opcheck(
        torch.ops.amodal2.mask_rle_decode.default, (text, offsets, (7, 17))
    )
    assert set(found.values()) == {"SUCCESS"}


def _round_trip(masks: Tensor) -> Tensor:
    size = (masks.shape[1], masks.shape[2])
    text, offsets = torch.ops.amodal2.mask_rle(masks, size, (0, 0))
    return torch.ops.amodal2.mask_rle_decode(text, offsets, size)


def test_mask_rle_compiled_round_trip_is_identity():
    compiled = torch.compile(_round_trip, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in ((7, 17), (65, 63)):
        masks = draw_masks(size)
        assert torch.equal(compiled(masks), masks)


class _RoundTrip(torch.nn.Module):
    def forward(self, masks):
        return _round_trip(masks)


def test_mask_rle_exported_with_dynamic_size_runs():
    dims = {0: torch.export.Dim("n", max=64), 1: torch.export.Dim("h"), 2: torch.export.Dim("w")}
    program = torch.export.export(
        _RoundTrip(), (draw_masks((7, 17)),), dynamic_shapes=(dims,)
    ).module()
    masks = draw_masks((65, 63), count=4)
    assert torch.equal(program(masks), masks)


def test_mask_rle_deterministic_algorithms_same_result():
    """In this mode PyTorch fills fresh memory with other values, so none may be read unwritten."""
    masks = draw_masks((65, 63))
    expected = mask_rle(masks)
    torch.use_deterministic_algorithms(True)
    try:
        assert mask_rle(masks) == expected
        assert torch.equal(mask_rle_decode(expected), masks)
    finally:
        torch.use_deterministic_algorithms(False)


def test_mask_rle_any_thread_number_same_text():
    masks = draw_masks((200, 300)).repeat(5, 1, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = mask_rle(masks)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert mask_rle(masks) == expected
            assert torch.equal(mask_rle_decode(expected), masks)
    finally:
        torch.set_num_threads(before)


@needs_kernel
def test_mask_rle_decode_kernel_error_in_a_thread_is_raised():
    masks = draw_masks((200, 300)).repeat(5, 1, 1)
    rles = mask_rle(masks)
    rles[17]["counts"] += "1"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError, match=r"sum to 60000 pixels, got more \(mask 17\)"):
            mask_rle_decode(rles)
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_rle_on_cuda_equals_cpu(size):
    masks = draw_masks(size)
    text, offsets = torch.ops.amodal2.mask_rle(masks.cuda(), size, (0, 0))
    assert text.is_cuda
    assert offsets.is_cuda
    assert texts_of((text.cpu(), offsets.cpu())) == coco_texts(masks)
    assert mask_rle(masks.cuda()) == mask_rle(masks)
    assert torch.equal(torch.ops.amodal2.mask_rle_decode(text, offsets, size).cpu(), masks)
