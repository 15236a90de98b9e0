"""From annotations of other tools and datasets to the JSON of video datasets.

Every format has a reader that yields one :class:`SourceVideo` after the other; :class:`VideoImport`
applies the rules of the schema to them, counts what it changes or drops, and writes the file. The
readers: ``labelme``, ``cvat``, ``coco_frames`` (COCO per frame with track ids), ``mask_folders`` of
annotation tools; ``fishbowl``, ``fishbowl_savos``, ``movid_a``, ``sailvos``, ``ytvis``,
``kins_video_car`` of datasets. Images go through ``image_import``, amodal boxes through
``box_import`` instead.
"""

from amodal2.data.importers.coco_frames import read_coco_frames
from amodal2.data.importers.cvat import read_cvat
from amodal2.data.importers.labelme import read_labelme
from amodal2.data.importers.mask_folders import read_mask_folders
from amodal2.data.importers.video_import import ObjectMasks, SourceVideo, VideoImport

__all__ = [
    "ObjectMasks",
    "SourceVideo",
    "VideoImport",
    "read_coco_frames",
    "read_cvat",
    "read_labelme",
    "read_mask_folders",
]
