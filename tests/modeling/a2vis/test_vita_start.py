"""A2VIS that begins as VITA: same masks and classes, then something to learn from."""

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.checkpoint import AmodalCheckpointer
from tests.modeling.tiny import make_sample, tiny_config

_VITA = (
    *("MODEL.A2VIS.START", "vita", "MODEL.A2VIS.UPDATE.INIT", "first_clip"),
    *("MODEL.A2VIS.SAMH.RESIDUAL", True),
)


def build(*changes):
    return build_model(tiny_config(*changes))


@pytest.fixture(scope="module")
def vita_file(tmp_path_factory):
    torch.manual_seed(3)
    source = build("MODEL.A2VIS.AUX_CLIP_LOSS", True)
    state = {name: x for name, x in source.state_dict().items() if not name.startswith("a2vis.")}
    path = tmp_path_factory.mktemp("vita") / "vita.pth"
    torch.save({"model": state}, path)
    return path


def started(path, *changes):
    model = build(*_VITA, "MODEL.A2VIS.AUX_CLIP_LOSS", True, *changes).eval()
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(str(path))
    return model, checkpointer.last_report


def vita_predictions(model, frames):
    """Class logits and masks of VITA's own heads for one clip."""
    with torch.no_grad():
        output, fine = model._detect(model._normalise(frames), predict=False)
        queries = model.vita_module(output.queries[-1][None, None], similarity=False)
        features = model.vita_module.mask_features(fine)
    masks = torch.einsum("nc,tchw->nthw", queries.mask_embed[-1, 0, 0], features)
    return queries.class_logits[-1, 0, 0], masks


def test_vita_start_repeats_masks_and_classes_of_vita(vita_file):
    model, report = started(vita_file)
    assert report.missing == []
    frames = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    classes, masks = vita_predictions(model, frames)
    clip, state = model.forward_clip(frames, model.start())
    torch.testing.assert_close(clip.visible_logits, masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(clip.amodal_logits, masks, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        model.a2vis.classify(state.prototypes)[0], classes, atol=1e-3, rtol=1e-3
    )


def test_vita_start_the_same_clip_again_keeps_slots_and_masks(vita_file):
    model, _ = started(vita_file)
    frames = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    first, state = model.forward_clip(frames, model.start())
    second, _ = model.forward_clip(frames, state)
    same = torch.nn.functional.cosine_similarity(
        first.visible_logits.flatten(1), second.visible_logits.flatten(1)
    )
    assert same.min() > 0.9


def test_vita_start_every_part_learns(vita_file):
    model, _ = started(vita_file)
    optimizer = torch.optim.SGD((p for p in model.train().parameters() if p.requires_grad), lr=0.1)
    for seed in range(2):  # zero read-outs let the projections before them learn from the 2nd step
        optimizer.zero_grad()
        sum(model([make_sample(seed)]).values()).backward()
        optimizer.step()
    still = [
        name
        for name, p in model.a2vis.named_parameters()
        if p.grad is None or (name.startswith("samh.") and not p.grad.abs().sum() > 0)
    ]
    assert still == []


def test_vita_start_leaves_trained_weights_of_a2vis_alone(tmp_path):
    source = build(*_VITA)
    torch.save({"model": source.state_dict()}, tmp_path / "a2vis.pth")
    model = build(*_VITA)
    AmodalCheckpointer(model).load(str(tmp_path / "a2vis.pth"))
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_vita_start_other_number_of_classes_leaves_the_class_head_alone(vita_file):
    model, report = started(vita_file, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 9)
    assert any(name.startswith("a2vis.class_head.") for name in report.missing)
    assert not any(name.startswith("a2vis.samh.") for name in report.missing)
    assert model.a2vis.class_head.fc.weight.shape[0] == 10


@pytest.mark.parametrize(
    "changes",
    [
        ("MODEL.A2VIS.UPDATE.INIT", "learned"),
        ("MODEL.A2VIS.SAMH.FEAT_POS", True),
        ("MODEL.A2VIS.SAMH.RESIDUAL", False),
        ("MODEL.A2VIS.UPDATE.SOFTMAX_AXIS", "global"),
    ],
)
def test_vita_start_settings_that_cannot_repeat_vita_are_named(changes):
    with pytest.raises(ValueError, match=changes[0].removeprefix("MODEL.A2VIS.")):
        build(*_VITA, *changes)


def test_vita_start_unknown_start_is_an_error():
    with pytest.raises(ValueError, match="expected START random or vita, got 'genvis'"):
        build("MODEL.A2VIS.START", "genvis")
