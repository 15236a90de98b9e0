from __future__ import annotations

import pytest

from amodal2.evaluation.completion_input import pair_completions
from amodal2.evaluation.completion_measure import measure_completions
from amodal2.evaluation.completion_variants import diffusion_vas, partly_hidden
from tests.structures.toy_images import image_dataset, thing
from tests.structures.toy_videos import bar


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [((0.0, 1.0), 0.75), ((0.0, 0.6), 0.5), ((0.9, 1.0), 1.0), ((0.0, 0.1), -1.0)],
)
def test_diffusion_vas_sequences_are_chosen_by_their_visible_share(tmp_path, sequences, expected):
    whole = thing(2, amodal_segm=bar(12, 18), visible_segm=bar(12, 18))
    objects, _ = pair_completions(
        image_dataset(tmp_path, thing(1), whole), [{"gt_id": 2, "amodal_segm": bar(12, 18)}]
    )
    scores = diffusion_vas(measure_completions(objects), sequences=sequences)
    assert scores.values["miou"] == pytest.approx(expected, abs=1e-5)


def test_diffusion_vas_hidden_parts_are_eroded_but_not_at_the_edge_of_the_image(tmp_path):
    """Hidden 5..10 shrinks to 7..8, predicted 5..11 to 7..9; the rows touch both edges."""
    objects, _ = pair_completions(
        image_dataset(tmp_path, thing(1)), [{"gt_id": 1, "amodal_segm": bar(0, 11)}]
    )
    scores = diffusion_vas(measure_completions(objects))
    assert scores.values["miou_occ"] == pytest.approx(0.5, abs=1e-5)


def test_diffusion_vas_frames_without_hidden_overlap_are_dropped(tmp_path):
    far = thing(2, 2)
    objects, _ = pair_completions(
        image_dataset(tmp_path, thing(1), far, images=2), [{"gt_id": 1, "amodal_segm": bar(0, 10)}]
    )
    scores = diffusion_vas(measure_completions(objects))
    assert scores.values["miou_occ"] == pytest.approx(1, abs=1e-5)
    assert scores.values["miou_occ_without_dropping"] == pytest.approx(0.5, abs=1e-5)
    assert scores.counts == {"n_frames": 2, "n_occ_kept": 1}


@pytest.mark.parametrize(
    ("shown", "counted"), [((0, 19), False), ((0, 15), True), ((0, 7), True), ((0, 5), False)]
)
def test_partly_hidden_takes_frames_between_the_rates(tmp_path, shown, counted):
    one = thing(1, amodal_segm=bar(0, 20), visible_segm=bar(*shown))
    objects, _ = pair_completions(
        image_dataset(tmp_path, one), [{"gt_id": 1, "amodal_segm": bar(0, 18)}]
    )
    scores = partly_hidden(measure_completions(objects))
    assert scores.counts["num_object_frames"] == int(counted)
    if counted:
        hidden = (18 - shown[1]) / (20 - shown[1])
        assert scores.values["full"] == pytest.approx(0.9, abs=1e-5)
        assert scores.values["occ"] == pytest.approx(hidden, abs=1e-5)
        # Nobody else is there, so the visible mask counts everywhere.
        assert scores.values["full_blend"] == pytest.approx(shown[1] / 20, abs=1e-5)
        assert scores.values["occ_blend"] == 0
