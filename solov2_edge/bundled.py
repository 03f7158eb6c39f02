"""What ships inside the package: a trained checkpoint, its ready ONNX file, pictures to show and to calibrate with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError
from solov2_edge.zoo import bundled_path

__all__ = ["Bundle", "bundle"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of the bundled model.

    Attributes:
        checkpoint: float16 safetensors.
        artefact: the checkpoint converted to ONNX, for machines without PyTorch.
        annotations: COCO file with RLE masks of the pictures.
        pictures: their folder; the model never saw them in training.
        calibration: folder of 64 training pictures (Data Science Bowl 2018, CC0), evenly drawn, to calibrate with.
        thing: what the model finds, singular.
        things: the plural.
    """

    checkpoint: Path
    artefact: Path
    annotations: Path
    pictures: Path
    calibration: Path
    thing: str
    things: str


def bundle() -> Bundle:
    """Return the bundled files.

    Raises:
        InputError: one is missing from the installation.
    """
    checkpoint = bundled_path()
    found = Bundle(
        checkpoint=checkpoint,
        artefact=checkpoint.with_name(f"{checkpoint.stem}.fp32.onnx"),
        annotations=checkpoint.with_name("pictures.json"),
        pictures=checkpoint.with_name("pictures"),
        calibration=checkpoint.with_name("calibration"),
        thing="nucleus",
        things="nuclei",
    )
    for path in (found.artefact, found.annotations, found.pictures, found.calibration):
        if not path.exists():
            raise InputError(f"{path.name} is missing from this installation; install solov2-edge again")
    return found
