"""Valid files of other origin, one small example per converter."""

from __future__ import annotations

from typing import Any

from tools.fuzzing.seeds import SIZES, polygon, rle, runs

Json = Any
SIZE = SIZES[0]
_VIDEO = "val/BDD/b1c66a42"


def flat(amodal: str, visible: str, *, outlines: bool, **further: Json) -> Json:
    """Return a COCO file with two masks per object under other names."""
    make = polygon if outlines else runs
    boxes = [((0, 0, 4, 4), (0, 0, 4, 4)), ((2, 0, 7, 4), (4, 0, 7, 4))]
    return {
        "images": [{"id": 9, "file_name": "9.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 4, "name": "car"}, {"id": 5, "name": "bus"}],
        "annotations": [
            {"id": i, "image_id": 9, "category_id": 4, "iscrowd": 0}
            | {amodal: make(SIZE, whole), visible: runs(SIZE, seen)}
            | {key: value + i for key, value in further.items()}
            for i, (whole, seen) in enumerate(boxes, start=1)
        ],
    }


def kins_2019() -> Json:
    """Return KINS of 2019."""
    return flat("segmentation", "inmodal_seg", outlines=True)


def kins_2020() -> Json:
    """Return KINS of 2020: both objects in one cluster."""
    data = flat("a_segm", "i_segm", outlines=True, ico_id=0)
    for record in data["annotations"]:
        record["oco_id"] = 3
    return data


def d2sa() -> Json:
    """Return D2SA, which COCOA-cls resembles."""
    return flat("segmentation", "visible_mask", outlines=False, occl_depth=0)


def cocoa() -> Json:
    """Return the original COCOA: one annotation with three regions."""
    regions = [
        {"segmentation": polygon(SIZE, (0, 0, 4, 4))[0], "name": "car", "isStuff": 0},
        {"segmentation": polygon(SIZE, (2, 0, 7, 4))[0], "name": "bus", "isStuff": 0}
        | {"visible_mask": runs(SIZE, (4, 0, 7, 4)), "occlude_rate": 0.4},
        {"segmentation": polygon(SIZE, (0, 0, 9, 1))[0], "name": "sky", "isStuff": 1},
    ]
    record = {"id": 1, "image_id": 9, "regions": regions, "depth_constraint": "1-2,2-3"}
    return {**kins_2019(), "annotations": [record, {**record, "id": 2}]}


def coco_frames() -> Json:
    """Return a COCO file with track ids: two frames of one object."""
    frames = [
        {"id": 7 + t, "file_name": f"drive/{t}.png", "height": SIZE[0], "width": SIZE[1]}
        | {"video_id": 1, "frame_index": t}
        for t in range(2)
    ]
    return {
        "images": frames,
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"id": t, "image_id": 7 + t, "category_id": 3, "track_id": 1}
            | {"visible_segm": runs(SIZE, (0, 0, 3, 4)), "amodal_segm": polygon(SIZE, (0, 0, 5, 4))}
            for t in range(2)
        ],
    }


def ytvis() -> Json:
    """Return OVIS with two videos."""
    names = ["Person", *(f"animal {i}" for i in range(2, 26))]
    tube = [runs(SIZE, (0, 0, 3, 4)), None]
    return {
        "videos": [
            {"id": i, "height": SIZE[0], "width": SIZE[1], "length": 2}
            | {"file_names": [f"v{i}/0.jpg", f"v{i}/1.jpg"]}
            for i in (1, 2)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
        "annotations": [
            {"id": i, "video_id": i, "category_id": i, "iscrowd": 0, "segmentations": list(tube)}
            | {"bboxes": [[0, 0, 3, 4], None], "areas": [12, None]}
            for i in (1, 2)
        ],
    }


def sailvos() -> Json:
    """Return two sequences of the same frames."""
    return [
        {
            "segmentation": [rle(SIZE, (0, 0, 5, 4)) for _ in range(25)],
            "visible_mask": [rle(SIZE, (0, 0, 3, 4)) for _ in range(25)],
            "image_ids": list(range(25)),
            "image_file_names": [f"ah/images/{index:06d}.bmp" for index in range(25)],
            "obj_id": number,
            "category_id": 3,
        }
        for number in (7, 8)
    ]


def tao_amodal() -> Json:
    """Return one video of two frames in the layout of TAO."""
    frames = [
        {"id": 7 + t, "video_id": 5, "file_name": f"{_VIDEO}/000{t}.jpg", "frame_index": t}
        | {"height": SIZE[0], "width": SIZE[1]}
        for t in range(2)
    ]
    return {
        "videos": [{"id": 5, "neg_category_ids": [3], "not_exhaustive_category_ids": []}],
        "images": frames,
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "person", "frequency": "f"}],
        "annotations": [
            {"id": t, "image_id": 7 + t, "track_id": 31, "category_id": 4, "visibility": 0.5}
            | {"amodal_bbox": [-4.5, 1, 8, 3], "bbox": [0, 1, 3.5, 3]}
            for t in range(2)
        ],
    }


def burst() -> Json:
    """Return the modal masks of :func:`tao_amodal`."""
    mask = {"1": {"rle": rle(SIZE, (0, 1, 3, 4))["counts"]}}
    sequence = {
        **{"height": SIZE[0], "width": SIZE[1], "seq_name": "b1c66a42", "dataset": "BDD"},
        "annotated_image_paths": ["0000.jpg", "0001.jpg"],
        "segmentations": [mask, dict(mask)],
    }
    return {"sequences": [sequence]}


def tao_sequences() -> Json:
    """Return one sequence of Diffusion-VAS."""
    return [
        {
            **{"track_id": 1, "category_id": 805, "video_id": 5},
            **{"height": SIZE[0], "width": SIZE[1]},
            "file_names": [f"{_VIDEO}/{index:04d}.jpg" for index in range(25)],
            "rles": [rle(SIZE, (0, 1, 3, 4))["counts"]] * 25,
            "amodal_bboxes": [[-4, 1, 8, 3] for _ in range(25)],
        }
    ]


def labelme() -> Json:
    """Return two frames."""
    return [
        {
            "imagePath": f"{t}.png",
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
            "shapes": [
                {"label": "car", "group_id": 1, "points": [[0, 0], [3, 0], [3, 4], [0, 4]]}
                | {"shape_type": "polygon", "flags": {}, "description": ""},
                {"label": "car amodal", "group_id": 1, "points": [[0, 0], [5, 4]]}
                | {"shape_type": "rectangle", "flags": {"amodal": True}, "description": None},
            ],
        }
        for t in range(2)
    ]


def cvat() -> Json:
    """Return what :func:`tools.fuzzing.targets.cvat_text` writes as XML."""
    box = {"frame": "0", "outside": "0", "left": "0", "top": "0", "width": "3", "height": "4"}
    return {
        **{"name": "drive", "size": "2", "start_frame": "0"},
        **{"width": str(SIZE[1]), "height": str(SIZE[0])},
        "tracks": [
            {
                "label": "car",
                "shapes": [
                    {"tag": "mask", "kind": "visible", "object": "1", **box, "rle": "0, 12"},
                    {"tag": "polygon", "kind": "amodal", "object": "1", "frame": "0"}
                    | {"outside": "0", "points": "0,0;5,0;5,4;0,4"},
                ],
            }
        ],
    }


def fishbowl() -> Json:
    """Return visible and amodal masks of one fish in two frames, as the simulator writes them."""
    return [
        [{"id": 3, "type_name": "fish", "masks": [rle(SIZE, box)] * 2}]
        for box in ((0, 0, 3, 4), (0, 0, 5, 4))
    ]


def fishbowl_savos() -> Json:
    """Return the pickled content of SaVos."""
    masks = {"VM": rle(SIZE, (0, 0, 3, 4)), "FM": rle(SIZE, (0, 0, 5, 4)), "fish_type": "a"}
    return {"00001_3": {0: masks, 1: dict(masks)}}


def kins_video_car() -> Json:
    """Return the pickled tracks of one video."""
    return {
        "2011_09_26_drive": {
            1: {0: {"VM": rle(SIZE, (0, 0, 3, 4))}, 1: {"VM": [runs(SIZE, (0, 0, 3, 4))]}}
        }
    }


SOURCES = {
    "kins_2019": kins_2019,
    "kins_2020": kins_2020,
    "d2sa": d2sa,
    "cocoa": cocoa,
    "cocoa_cls": d2sa,
    "coco_frames": coco_frames,
    "ytvis": ytvis,
    "sailvos": sailvos,
    "tao_amodal": tao_amodal,
    "tao_burst": burst,
    "tao_sequences": tao_sequences,
    "labelme": labelme,
    "cvat": cvat,
    "fishbowl": fishbowl,
    "fishbowl_savos": fishbowl_savos,
    "kins_video_car": kins_video_car,
}
