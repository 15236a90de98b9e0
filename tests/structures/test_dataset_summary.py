from amodal2.structures.dataset_summary import summarise_video
from amodal2.structures.video_json import VideoDataset


def test_summarise_video_without_amodal_masks_has_no_hidden_shares():
    video = {"id": 1, "width": 4, "height": 2, "length": 1}
    track = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [None]}
    dataset = VideoDataset("f", [video], [{"id": 1, "name": "fish"}], [track])
    lines = summarise_video(dataset)
    assert "tracks: 1; with a mask in 0 frames" in lines
    assert not [line for line in lines if "hidden" in line]


def test_summarise_video_empty_file_says_none():
    assert summarise_video(VideoDataset("f", [], [], []))[0].startswith(
        "videos: 0, frames per video none"
    )
