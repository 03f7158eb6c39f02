from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.coco_classes import COCO_CLASSES
from solov2_edge.demos.image import Outputs, encode_jpeg, expand_pictures, segment_pictures
from solov2_edge.errors import InputError
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import read_picture

Make = Callable[..., Instances]


@pytest.fixture
def segment(make: Make) -> Callable[[NDArray[np.uint8]], Instances]:
    """A network that finds two boxes in every frame of at least 8 x 8, and nothing in smaller ones."""

    def run(frame: NDArray[np.uint8]) -> Instances:
        height, width = frame.shape[:2]
        boxes = [(0, 0, 4, 4), (4, 4, 8, 8)] if min(height, width) >= 8 else []
        return make(height, width, boxes)

    return run


def save(path: Path, height: int = 20, width: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_everything_is_written(tmp_path: Path, segment: Any) -> None:
    pictures = [save(tmp_path / "in" / "a.jpg"), save(tmp_path / "in" / "b.png")]
    out = tmp_path / "out"
    out.mkdir()
    done = segment_pictures(segment, pictures, out, Outputs(), lambda: {"network": 1.5})
    assert {p.name for p in out.iterdir()} == {
        "a.overlay.jpg", "b.overlay.png", "a.json", "b.json", "instances.json"
    }  # fmt: skip
    assert [(p.instances, p.height, p.width, p.error, p.timings) for p in done] == [
        (2, 20, 30, "", {"network": 1.5})
    ] * 2
    assert read_picture(out / "a.overlay.jpg").shape == (20, 30, 3)
    labelme = read_json(out / "a.json")
    assert (out / labelme["imagePath"]).resolve() == pictures[0].resolve()
    assert len(labelme["shapes"]) == 2


def test_the_coco_file_is_a_whole_document(tmp_path: Path, segment: Any) -> None:
    pictures = [save(tmp_path / "a.jpg"), save(tmp_path / "tiny.png", 1, 1), save(tmp_path / "b.png", 8, 9)]
    out = tmp_path / "out"
    out.mkdir()
    segment_pictures(segment, pictures, out, Outputs())
    coco = read_json(out / "instances.json")
    assert [(i["id"], i["height"], i["width"]) for i in coco["images"]] == [(1, 20, 30), (2, 1, 1), (3, 8, 9)]
    assert coco["categories"] == [{"id": 1, "name": "cell"}, {"id": 2, "name": "dust"}]
    assert [a["id"] for a in coco["annotations"]] == [1, 2, 3, 4]
    assert [a["image_id"] for a in coco["annotations"]] == [1, 1, 3, 3]
    assert all(0 < a["score"] <= 1 and a["iscrowd"] == 0 for a in coco["annotations"])


def test_coco_classes_keep_cocos_ids(tmp_path: Path, make: Make) -> None:
    out = tmp_path / "out"
    out.mkdir()
    segment_pictures(
        lambda frame: make(20, 30, [(1, 1, 9, 9)], COCO_CLASSES), [save(tmp_path / "a.png")], out, Outputs()
    )
    categories = read_json(out / "instances.json")["categories"]
    assert categories[-1] == {"id": 90, "name": "toothbrush"}


def test_names_never_collide(tmp_path: Path, segment: Any) -> None:
    names = ["x/cell.jpg", "x/cell.png", "y/cell.jpg", "y/CELL.png", "y/instances.jpg"]
    out = tmp_path / "out"
    out.mkdir()
    done = segment_pictures(segment, [save(tmp_path / name) for name in names], out, Outputs())
    files = [file.name.lower() for picture in done for file in picture.files]
    assert len(set(files)) == len(files) == 10
    assert "instances.json" not in files


def test_a_bad_picture_does_not_stop_the_others(tmp_path: Path, segment: Any) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    out = tmp_path / "out"
    out.mkdir()
    done = segment_pictures(segment, [bad, tmp_path / "none.png", save(tmp_path / "a.png")], out, Outputs())
    assert [bool(picture.error) for picture in done] == [True, True, False]
    assert "bad.jpg" in done[0].error
    assert len(read_json(out / "instances.json")["images"]) == 1


def test_only_what_was_asked_for(tmp_path: Path, segment: Any) -> None:
    picture = save(tmp_path / "a.png")
    for outputs, expected in (
        (Outputs(labelme=False, coco=False), {"a.overlay.png"}),
        (Outputs(overlay=False, coco=False), {"a.json"}),
        (Outputs(overlay=False, labelme=False), {"instances.json"}),
    ):
        out = tmp_path / next(iter(expected)).replace(".", "-")
        out.mkdir()
        segment_pictures(segment, [picture], out, outputs)
        assert {p.name for p in out.iterdir()} == expected


def test_overlays_can_be_magnified(tmp_path: Path, segment: Any) -> None:
    segment_pictures(segment, [save(tmp_path / "a.png")], tmp_path, Outputs(scale=3))
    assert read_picture(tmp_path / "a.overlay.png").shape == (60, 90, 3)


def test_folders_are_expanded_once_and_in_order(tmp_path: Path) -> None:
    a, b = save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "notes.txt").write_text("x", encoding="utf-8")
    assert expand_pictures([b, tmp_path / "in", tmp_path / "gone.png"]) == [b, a, tmp_path / "gone.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        expand_pictures([tmp_path / "empty"])


def test_jpeg_bytes_are_a_picture() -> None:
    data = encode_jpeg(np.full((5, 7, 3), 200, np.uint8))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (5, 7, 3)


def test_faint_instances_stay_in_the_coco_file_and_off_what_people_are_shown(tmp_path: Path, segment: Any) -> None:
    done = segment_pictures(segment, [save(tmp_path / "a.png")], tmp_path, Outputs(shown_score=0.895))
    assert (done[0].instances, done[0].shown) == (2, 1)
    assert len(read_json(tmp_path / "a.json")["shapes"]) == 1
    assert len(read_json(tmp_path / "instances.json")["annotations"]) == 2
    overlay = read_picture(tmp_path / "a.overlay.png")
    assert (overlay[1, 1] != 90).any()
    assert (overlay[6, 6] == 90).all()


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_a_shown_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(InputError, match="shown_score"):
        Outputs(shown_score=score)
