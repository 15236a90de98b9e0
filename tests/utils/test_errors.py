"""Tests of amodal2/utils/errors.py."""

import pytest

from amodal2.utils.errors import AnnotationError


def test_annotation_error_with_places_names_each():
    error = AnnotationError("bad", file="a.json", video_id=0, annotation_id=7, key="bboxes")
    assert str(error) == "bad [file a.json, video 0, annotation 7, key bboxes]"
    assert (error.file, error.video_id, error.image_id) == ("a.json", 0, None)
    assert (error.annotation_id, error.key) == (7, "bboxes")


def test_annotation_error_without_places_keeps_the_message():
    with pytest.raises(ValueError, match=r"^plain$"):
        raise AnnotationError("plain")
