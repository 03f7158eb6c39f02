from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.converters.worst_pictures import WorstPictures
from solov2_edge.errors import InputError
from solov2_edge.runtime import Instances

FRAME = np.full((40, 60, 3), 90, np.uint8)


def boxes(*rows):
    """Instances of filled boxes: (y0, x0, y1, x1, score)."""
    masks = np.zeros((len(rows), 40, 60), bool)
    for mask, (y0, x0, y1, x1, _) in zip(masks, rows, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, [r[4] for r in rows], np.zeros(len(rows), int), ("ant",))


TWO = boxes((0, 0, 10, 10, 0.9), (20, 20, 30, 40, 0.8))
ONE = boxes((0, 0, 10, 10, 0.9))
NONE = boxes()
LOOSE = boxes((0, 0, 10, 10, 0.9), (20, 20, 30, 35, 0.8))


def test_the_worst_are_written_and_named_by_rank(tmp_path):
    worst = WorstPictures(tmp_path / "new" / "worst", 2, "m.onnx")
    for name, ours in (("same.png", TWO), ("loose.png", LOOSE), ("one.jpg", ONE), ("none.png", NONE)):
        worst.add(name, FRAME, TWO, ours)
    found = worst.write()
    assert [(w.picture, w.missed, w.extra, w.loose) for w in found] == [("none.png", 2, 0, 0), ("one.jpg", 1, 0, 0)]
    assert [Path(w.path).name for w in found] == ["worst-01-none.png", "worst-02-one.png"]
    assert [w.quality for w in found] == [0.0, pytest.approx(1 / 1.5)]
    assert sorted(p.name for p in worst.folder.iterdir()) == ["worst-01-none.png", "worst-02-one.png"]
    page = cv2.imread(found[0].path)
    assert page.shape[1] == 3 * 600 + 2 * 12


def test_pictures_that_agree_are_left_out(tmp_path):
    worst = WorstPictures(tmp_path, 5, "m.onnx")
    worst.add("same.png", FRAME, TWO, TWO)
    worst.add("empty.png", FRAME, NONE, NONE)
    assert worst.write() == ()


def test_overlays_of_an_earlier_run_go_and_nothing_else(tmp_path):
    for name in ("worst-03-old.png", "mine.png", "worst-picture.png"):
        (tmp_path / name).write_bytes(b"x")
    worst = WorstPictures(tmp_path, 5, "m.onnx")
    worst.add("one.png", FRAME, TWO, ONE)
    worst.write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.png", "worst-01-one.png", "worst-picture.png"]


def test_faint_instances_count_only_with_a_partner_people_see(tmp_path):
    worst = WorstPictures(tmp_path, 5, "m.onnx")
    faint = boxes((0, 0, 10, 10, 0.2))
    worst.add("faint.png", FRAME, faint, NONE)  # nobody is shown it
    worst.add("faded.png", FRAME, ONE, faint)  # found by both, and shown in both
    assert worst.write() == ()
    worst.add("gone.png", FRAME, ONE, NONE)
    assert [w.missed for w in worst.write()] == [1]


def test_partners_are_found_when_the_ranks_differ(tmp_path):
    worst = WorstPictures(tmp_path, 5, "m.onnx")
    ours = boxes((20, 20, 30, 35, 0.9), (0, 0, 10, 10, 0.8), (0, 40, 10, 50, 0.7))
    worst.add("p.png", FRAME, TWO, ours)
    (found,) = worst.write()
    assert (found.missed, found.extra, found.loose) == (0, 1, 1)


def test_bad_arguments(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        WorstPictures(tmp_path, 0, "m.onnx")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="a file stands in its way"):
        WorstPictures(tmp_path / "file", 1, "m.onnx")
