"""Where panoptic maps go, as COCO lays them out: one JSON, and a folder of its name with a PNG per picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from solov2_edge.files import output_folder
from solov2_edge.runtime.panoptic import Panoptic
from solov2_edge.runtime.panoptic_coco import panoptic_annotation

__all__ = ["PANOPTIC_FILE", "PanopticFiles"]

PANOPTIC_FILE = "panoptic.json"


class PanopticFiles:
    """Gathers one COCO panoptic document; categories are numbered from 1, things first.

    Attributes:
        document: the document so far; None before the first map.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.document: dict[str, Any] | None = None

    def add(self, name: str, file_name: str, panoptic: Panoptic) -> Path:
        """Take up the map of a picture; return where its PNG of segment ids goes, in a folder that exists.

        Args:
            name: of the picture's results.
            file_name: how the document refers to the picture.
            panoptic: its map.
        """
        things, ids = len(panoptic.instances.class_names), range(1, len(panoptic.names) + 1)
        if self.document is None:
            categories = [
                {"id": number, "name": label, "isthing": int(number <= things)}
                for number, label in zip(ids, panoptic.names, strict=True)
            ]
            self.document = {"images": [], "annotations": [], "categories": categories}
        height, width = panoptic.ids.shape
        image = len(self.document["images"]) + 1
        self.document["images"].append({"id": image, "file_name": file_name, "height": height, "width": width})
        self.document["annotations"].append(panoptic_annotation(panoptic, image, f"{name}.png", ids))
        return output_folder(self._folder / Path(PANOPTIC_FILE).stem) / f"{name}.png"
