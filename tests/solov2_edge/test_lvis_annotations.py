"""Training reads LVIS's annotations, which name a picture by its address."""

import json

import cv2
import numpy as np

from solov2_edge.annotated_pictures import read_pictures
from solov2_edge.cli import main


def test_pictures_are_found_by_their_address(tmp_path, capsys):
    (tmp_path / "train2017").mkdir()
    assert cv2.imwrite(str(tmp_path / "train2017" / "7.png"), np.zeros((40, 50, 3), np.uint8))
    picture = {"id": 7, "coco_url": "http://images.example.org/train2017/7.png", "height": 40, "width": 50}
    square = {"id": 1, "image_id": 7, "category_id": 1203, "segmentation": [[2, 2, 22, 2, 22, 22, 2, 22]], "area": 400}
    categories = [{"id": number, "name": f"thing {number}", "frequency": "r"} for number in range(1, 1204)]
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [picture], "categories": categories, "annotations": [square]}))
    pictures = read_pictures(path, tmp_path)
    assert pictures.files == (tmp_path / "train2017" / "7.png",)
    assert len(pictures.class_names) == 1203
    assert pictures.annotations[0][0][0] == 1202  # the channel of the last class
    assert main(["train", "--annotations", str(path), "--images", str(tmp_path), "--check"]) == 0
    assert "1 pictures (1 with objects)" in capsys.readouterr().out
