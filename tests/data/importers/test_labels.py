import pytest

from amodal2.data.importers.labels import split_label


@pytest.mark.parametrize(
    ("label", "hint", "expected"),
    [
        ("car", "", ("car", None)),
        ("car_amodal", "", ("car", "amodal")),
        ("parked car: Visible", "", ("parked car", "visible")),
        ("car", "the amodal outline", ("car", "amodal")),
        ("car", "amodal or visible", ("car", None)),
        ("car amodal", "visible", ("car", "amodal")),
        ("amodal", "", ("amodal", None)),
    ],
)
def test_split_label_finds_category_and_kind(label, hint, expected):
    assert split_label(label, hint) == expected
