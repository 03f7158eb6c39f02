"""LabelMe documents and YOLO labels that are damaged, contradict their pictures, or reach out of their folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hostile_case import Case, Kit, Make

__all__ = ["FORMS"]

VERBS = {
    "eval": "eval {onnx} --annotations {case}",
    "train": "train --annotations {case} --input-size 64x96 --epochs 1 --batch-size 1 -o {out}",
}
SQUARE = [[8, 8], [40, 8], [40, 40], [8, 40]]


def labelme(**fields: object) -> Make:
    """Return a maker of a good document beside its picture, with fields changed: its own, or ``shape_...``."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(kit.picture, folder / "good.png")
        shape = {"label": "nut", "points": SQUARE, "shape_type": "polygon", "group_id": None}
        document = {"imagePath": "good.png", "imageData": None, "imageHeight": 64, "imageWidth": 96}
        for name, value in fields.items():
            (shape if name.startswith("shape_") else document)[name.removeprefix("shape_")] = value
        text = json.dumps({"version": "5.0.0", "shapes": [shape], **document})
        (folder / "good.json").write_text(text)

    return make


def text(content: str) -> Make:
    """Return a maker of a document with that text."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(kit.picture, folder / "good.png")
        (folder / "bad.json").write_text(content)

    return make


def yolo(labels: str | bytes, names: str | bytes = "nut\nbolt\n", listed: str = "classes.txt") -> Make:
    """Return a maker of labels beside their picture."""

    def make(folder: Path, kit: Kit) -> None:
        shutil.copy(kit.picture, folder / "good.png")
        for name, content in (("good.txt", labels), (listed, names)):
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


GOOD = "0 0.1 0.1 0.4 0.1 0.4 0.6\n"
DOCUMENTS: dict[str, tuple[str, Make]] = {
    "cut": ("not readable JSON", text('{"shapes": [{"label": "nut"')),
    "whose shapes are text": ("no list 'shapes'", text('{"shapes": "many", "imagePath": "good.png"}')),
    "nested 100,000 deep": ("not readable JSON", text('{"shapes": ' + "[" * 100_000 + "]" * 100_000 + "}")),
    "whose shape is a number": (
        "shape 1 is no object",
        text('{"shapes": [7], "imagePath": "good.png", "imageHeight": 64, "imageWidth": 96}'),
    ),
    "that climbs": ("leads out of the folder", labelme(imagePath="../../../../etc/passwd")),
    "of an absolute picture": ("leads out of the folder", labelme(imagePath="/etc/passwd")),
    "of a picture by number": ("has the imagePath 7", labelme(imagePath=7)),
    "of a picture with a NUL": ("has the imagePath", labelme(imagePath="a\0b.png")),
    "of a picture of 5,000 letters": ("not there", labelme(imagePath="x" * 5000)),
    "of a picture that is a folder": ("not there", labelme(imagePath=".")),
    "whose embedded picture is none": (
        "imageData of .* is not a JPEG",
        labelme(imagePath="gone.png", imageData="aGVsbG8="),
    ),
    "whose embedded picture is no base64": ("not base64", labelme(imagePath="gone.png", imageData="~~~")),
    "of another size": ("65[ ,x]+96", labelme(imageHeight=65)),
    "of 10^18 pixels": ("1000000000 x 1000000000", labelme(imageHeight=10**9, imageWidth=10**9)),
    "with a label that is a list": ("shape 1 has the label", labelme(shape_label=["nut"])),
    "with a group that is a list": ("has the group_id", labelme(shape_group_id=[1])),
    "with a mask shape": ("shape 1 is a mask", labelme(shape_shape_type="mask")),
    "with two points": ("polygon of 2 points", labelme(shape_points=SQUARE[:2])),
    "with points of three": ("pairs of finite", labelme(shape_points=[[1, 2, 3]] * 3)),
    "with NaN": ("pairs of finite", labelme(shape_points=[[float("nan"), 1]] * 3)),
    "with points at 10^300": ("beyond 1000000 pixels", labelme(shape_points=[[1e300, 1], [1, 1e300], [0, 0]])),
    "with a circle of a million pixels": (
        "beyond 1000000 pixels",
        labelme(shape_shape_type="circle", shape_points=[[0, 0], [1e6, 1e6]]),
    ),
    "with no shape": ("no object|with an annotated object", labelme(shapes=[])),
}
LABELS: dict[str, tuple[str, Make]] = {
    "of a class nobody named": ("line 1 has the class 2", yolo("2 0.1 0.1 0.4 0.1 0.4 0.6\n")),
    "of a class of 10,000 digits": ("not a class number", yolo("1" * 10_000 + " 0.1 0.1 0.4 0.1 0.4 0.6\n")),
    "of a class below 0": ("has the class -1", yolo("-1 0.1 0.1 0.4 0.1 0.4 0.6\n")),
    "that are boxes": ("is a box", yolo("0 0.5 0.5 0.2 0.2\n")),
    "in pixels": ("shares of the picture", yolo("0 10 10 40 10 40 40\n")),
    "of infinity": ("not finite", yolo("0 inf 0.1 0.4 0.1 0.4 0.6\n")),
    "of half a point": ("has 7 coordinates", yolo("0 0.1 0.1 0.4 0.1 0.4 0.6 0.2\n")),
    "that are no text": ("cannot be read as text", yolo(b"0 0.1 0.1 0.4 0.1 0.4 0.6\n\xff\xfe")),
    "of classes without names": ("must hold class names", yolo(GOOD, "")),
    "of classes named twice": ("names nut twice", yolo(GOOD, "nut\nnut\n")),
    "of names that are no text": ("not UTF-8", yolo(GOOD, b"\xff\xfe")),
    "of a data.yaml without names": ("has no names", yolo(GOOD, "nc: 2\n", "data.yaml")),
    "of a data.yaml that counts otherwise": ("says nc: 3", yolo(GOOD, "nc: 3\nnames: [nut, bolt]\n", "data.yaml")),
    "of a data.yaml of 10^6 brackets": ("name of .* letters", yolo(GOOD, "names: " + "[" * 10**6, "data.yaml")),
    "of a data.yaml of 10^6 blanks": (
        "says nc: 9|letters",
        yolo(GOOD, "names: [nut" + " " * 10**6 + "x, ]\nnc: 9", "data.yaml"),
    ),
    "of a data.yaml with numbers of 10,000 digits": (
        "no names",
        yolo(GOOD, "names:\n  " + "1" * 10_000 + ": nut\n", "data.yaml"),
    ),
}
FORMS = [
    Case(f"annotations for {verb}: {kind} {name}", line, says, make)
    for kind, table in (("a LabelMe document", DOCUMENTS), ("YOLO labels", LABELS))
    for name, (says, make) in table.items()
    for verb, line in VERBS.items()
]
