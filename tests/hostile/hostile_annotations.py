"""COCO files that are damaged, contradict their pictures, or hold masks that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_case import Case, Kit, Make, many, well
from hostile_forms import FORMS

__all__ = ["ANNOTATIONS"]

EVAL = "eval {onnx} --annotations {case}/bad.json --images {pictures}"
TRAIN = "train --annotations {case}/bad.json --images {pictures} --input-size 64x96 --epochs 1 --batch-size 1 -o {out}"
Data = dict[str, Any]


def edited(change: Callable[[Data], object]) -> Make:
    """Return a maker that changes the good annotations."""

    def make(folder: Path, kit: Kit) -> None:
        data = kit.coco()
        change(data)
        (folder / "bad.json").write_text(json.dumps(data))

    return make


def masked(segmentation: object) -> Make:
    """Return a maker that gives the one object that mask."""
    return edited(lambda data: data["annotations"][0].update(segmentation=segmentation))


def fields(kind: str, **values: object) -> Make:
    """Return a maker that sets fields of the first image, category or annotation."""
    return edited(lambda data: data[kind][0].update(values))


def without(kind: str, name: str) -> Make:
    """Return a maker that leaves a field out."""
    return edited(lambda data: data[kind][0].pop(name))


def twice(kind: str) -> Make:
    """Return a maker that lists the first entry twice under one id."""
    return edited(lambda data: data[kind].append(dict(data[kind][0])))


def million(folder: Path, kit: Kit) -> None:
    """Write 10^6 objects on one picture, as text: 100 MB of dicts would take longer to make than to read."""
    one = '{"id":%d,"image_id":1,"category_id":9,"segmentation":[[0,0,9,0,9,9]],"area":9}'
    images = '[{"id":1,"file_name":"good.png","height":64,"width":96}]'
    objects = ",".join(one % i for i in range(10**6))
    (folder / "bad.json").write_text(
        f'{{"images":{images},"categories":[{{"id":1,"name":"nut"}}],"annotations":[{objects}]}}'
    )


TEXTS = {
    "empty": ("", "."),
    "a text": ("id,name\n1,nut\n", "."),
    "cut": ('{"images": [', "."),
    "a list": ("[]", "."),
    "null": ("null", "."),
    "no UTF-8": (b'{"images": "\xff"}', "."),
    "nested 100,000 deep": ("[" * 100_000 + "]" * 100_000, "."),
    "a number of 10,000 digits": ('{"images": ' + "1" * 10_000 + "}", "."),
    "lists that are objects": ('{"images": {}, "categories": {}, "annotations": {}}', "."),
    "lists of numbers": ('{"images": [1], "categories": [2], "annotations": [3]}', "."),
    "without anything": ('{"images": [], "categories": [], "annotations": []}', "."),
    "captions": ('{"images": [], "annotations": [{"id": 1, "caption": "a nut"}]}', "."),
    "LabelMe": ('{"version": "5.0", "shapes": [], "imagePath": "good.png"}', "."),
}
SEGMENTATIONS: dict[str, object] = {
    "no polygon": [],
    "an empty polygon": [[]],
    "two points": [[1, 1, 9, 9]],
    "half a point": [[1, 1, 9, 1, 9, 9, 1]],
    "words": [["a", "b", "c", "d", "e", "f"]],
    "null": [[None] * 6],
    "nested too deep": [[[1, 1], [9, 1], [9, 9]]],
    "NaN": [[float("nan")] * 6],
    "infinity": [[float("inf")] * 6],
    "points at 10^300": [[1e300, 1e300, 2e300, 1e300, 2e300, 2e300]],
    "points at 10^9": [[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]],
    "an empty RLE": {},
    "an RLE without counts": {"size": [64, 96]},
    "an RLE without a size": {"counts": "abc"},
    "an RLE of another size": {"size": [9, 9], "counts": [81]},
    "an RLE of one side": {"size": [64], "counts": [64]},
    "an RLE of three sides": {"size": [64, 96, 3], "counts": [64 * 96 * 3]},
    "an RLE with a size in words": {"size": ["a", "b"], "counts": [6144]},
    "an RLE of size null": {"size": None, "counts": [6144]},
    "an RLE of a negative size": {"size": [-64, -96], "counts": [6144]},
    "an RLE of 2^40 pixels": {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
    "an RLE too short": {"size": [64, 96], "counts": [100]},
    "an RLE too long": {"size": [64, 96], "counts": [6144, 1]},
    "an RLE of negative runs": {"size": [64, 96], "counts": [7000, -856]},
    "an RLE of runs that overflow": {"size": [64, 96], "counts": [1 << 62, 1 << 62, 1 << 62, (1 << 62) + 6144]},
    "an RLE of runs beyond int64": {"size": [64, 96], "counts": [1 << 70]},
    "an RLE of fractions": {"size": [64, 96], "counts": [0.5, 6143.5]},
    "an RLE of words": {"size": [64, 96], "counts": ["a", "b"]},
    "an RLE of nested runs": {"size": [64, 96], "counts": [[6144]]},
    "an RLE of null": {"size": [64, 96], "counts": None},
    "an RLE of a number": {"size": [64, 96], "counts": 6144},
    "an RLE text cut": {"size": [64, 96], "counts": "P"},
    "an RLE text of other letters": {"size": [64, 96], "counts": "~~~~"},
    "an RLE text beyond ASCII": {"size": [64, 96], "counts": "äö"},
    "an RLE text of 60 bits": {"size": [64, 96], "counts": "o" * 40 + "0"},
    "an empty RLE text": {"size": [64, 96], "counts": ""},
    "a number": 3,
    "a text": "polygon",
    "nothing": None,
}
EDITS: dict[str, Make] = {
    "a picture that is not there": fields("images", file_name="none.png"),
    "a picture that climbs": fields("images", file_name="../none/../../x.png"),
    "a picture that is a folder": fields("images", file_name="."),
    "a picture without a name": fields("images", file_name=""),
    "a picture named by a number": fields("images", file_name=7),
    "a picture with a NUL in its name": fields("images", file_name="a\0b.png"),
    "a picture with 5,000 letters in its name": fields("images", file_name="x" * 5000),
    "a picture of another size": fields("images", height=65, width=96),
    "a picture of half a size": fields("images", height=None, width=96),
    "an image without an id": without("images", "id"),
    "an image without a file name": without("images", "file_name"),
    "an image id that is a list": fields("images", id=[1]),
    "an image id that is null": fields("images", id=None),
    "an object on no picture": fields("annotations", image_id=99),
    "an object without a category": without("annotations", "category_id"),
    "an object without a mask": without("annotations", "segmentation"),
    "an object without a picture": without("annotations", "image_id"),
    "an object whose category is a text": fields("annotations", category_id="nut"),
    "an object whose picture is a list": fields("annotations", image_id=[1]),
    "a category without a name": without("categories", "name"),
    "a category without an id": without("categories", "id"),
    "a category whose id is a text": fields("categories", id="one"),
    "no categories": edited(lambda data: data.pop("categories")),
    "no images": edited(lambda data: data.pop("images")),
    "no annotations": edited(lambda data: data.pop("annotations")),
    "two images of one id": twice("images"),
    "two categories of one id": twice("categories"),
}
# For evaluation alone: training needs no area, knows every category, and takes objects without an id.
EVALUATED: dict[str, Make] = {
    "two objects of one id": twice("annotations"),
    "an object without an id": without("annotations", "id"),
    "an object of area NaN": fields("annotations", area=float("nan")),
    "an object of negative area": fields("annotations", area=-5),
    "an area in words": fields("annotations", area="big"),
    "a crowd in words": fields("annotations", iscrowd="maybe"),
    "classes that the model lacks": edited(
        lambda data: [category.update(name=f"x{category['id']}") for category in data["categories"]]
    ),
}

NO_SIZE = fields("images", height=None, width=None)  # as good as none: the file has it
ANNOTATIONS = [
    *FORMS,
    *many("annotations for eval:", EVAL, "bad.json", TEXTS),
    *many("annotations for train:", TRAIN, "bad.json", TEXTS),
    *(
        Case(f"annotations for {verb} with the mask {name}", line, ".", masked(value))
        for name, value in SEGMENTATIONS.items()
        for verb, line in (("eval", EVAL), ("train", TRAIN))
    ),
    *(
        Case(f"annotations for {verb} with {name}", line, ".", make)
        for name, make in EDITS.items()
        for verb, line in (("eval", EVAL), ("train", TRAIN))
    ),
    *(Case(f"annotations for eval with {name}", EVAL, ".", make) for name, make in EVALUATED.items()),
    Case("annotations for eval of 10^6 objects", EVAL, make=million, code=0, right=well),
    Case("annotations for train of 10^6 objects of no category", TRAIN, ".", million),
    *(
        Case(f"annotations for {verb} with a size of null", line, make=NO_SIZE, code=0, right=well)
        for verb, line in (("eval", EVAL), ("train", TRAIN))
    ),
    *(
        Case(f"annotations without {what}", EVAL, make=without("annotations", field), code=0, right=well)
        for what, field in (("a crowd flag", "iscrowd"), ("an area", "area"))
    ),
]
