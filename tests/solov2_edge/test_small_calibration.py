"""Too few calibration pictures are refused by ``convert`` before anything else is done, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.bundled import bundle
from solov2_edge.cli import main
from solov2_edge.converters.calibration import MIN_PICTURES
from solov2_edge.errors import GateError

CALIBRATED = [("onnx", "int8"), ("tflite", "int8"), ("tflite", "int16x8"), ("coreml", "w8a8")]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture less than is asked for, and a copy of one, which does not count."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(MIN_PICTURES - 1):
        cv2.imwrite(str(folder / f"{number:02}.png"), np.full((8, 8, 3), number, np.uint8))
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    return folder


def words(kind: str, precision: str, few: Path, out: Path) -> list[str]:
    asked = ["--to", kind, "--precision", precision, "--input-size", "64x96", "--calibrate", str(few), "-o", str(out)]
    return ["convert", str(bundle().checkpoint), *asked]


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "precision"), CALIBRATED)
def test_too_few_pictures_are_refused(
    kind: str, precision: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(kind, precision, few, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert f"at least {MIN_PICTURES} different pictures, got {MIN_PICTURES - 1}" in said
    assert "--allow-small" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "precision"), CALIBRATED)
def test_allow_small_hands_them_to_the_exporter(
    kind: str, precision: str, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def export(*_: Any, **options: Any) -> None:
        given.update(options)
        raise GateError("far enough")

    monkeypatch.setattr("solov2_edge.command_convert.exporter", lambda _: export)
    assert main([*words(kind, precision, few, tmp_path / "out"), "--allow-small"]) == 3
    assert given["calibration"].to_manifest()["count"] == MIN_PICTURES
    assert given["precision"] == precision
