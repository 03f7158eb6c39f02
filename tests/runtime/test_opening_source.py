"""What a user writes, and which source it opens; what is refused, in one sentence with the cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Mode


def test_moving_shapes() -> None:
    with open_source("test://64x48?fps=0&frames=3&shapes=2") as source:
        assert source.mode is Mode.VIDEO
        assert [frame.image.shape for frame in source] == [(48, 64, 3)] * 3
    with open_source("test://?fps=12.5") as source:
        assert (source.mode, source.fps, source.description) == (Mode.LIVE, 12.5, "test source, 640 x 480")


def test_a_picture_whose_suffix_lies_is_a_picture(tmp_path: Path) -> None:
    good, data = cv2.imencode(".png", np.full((4, 5, 3), 9, np.uint8))
    assert good
    (tmp_path / "clip.mp4").write_bytes(data.tobytes())
    (frame,) = open_source(tmp_path / "clip.mp4")
    assert frame.image.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a source has no name; expected a camera"),
        ("none.mp4", r"^none\.mp4 does not exist; expected a camera \(0 or /dev/video0\)"),
        ("*.none", "matches no picture"),
        ("ftp://camera/1", "^ftp:// is no source known here; expected a camera"),
        ("csi://front", "a CSI camera has a number"),
        ("csi://0?size=3", "is not understood; expected csi://0"),
        ("csi://0?width=a", "not a number"),
        ("csi://0?fps=29.97", "not a number"),
        ("test://64", "64 is no size"),
        ("test://64x48x3", "64x48x3 is no size"),
        ("test://64x48/path", "is not understood"),
        ("test://64x48?fps=1&fps=2", "once or not at all"),
        ("test://64x48?fps=", "not a number"),
        ("test://8x8", "16 x 16"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        open_source(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"width": 640, "height": 480},
            r"^width and height can be asked of a camera .* only, and test://64x48 is none",
        ),
        ({"fps": 0}, "a camera's fps is more than 0"),
        ({"width": float("nan")}, "width is more than 0"),
        ({"reopen": -1}, "0 seconds or more, got -1"),
        ({"timeout": 0}, "time-out is more than 0"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_source("test://64x48", **options)


def test_a_size_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"width is given in csi://0\?width=640 and beside it; leave one out"):
        open_source("csi://0?width=640", width=1280)


def test_an_empty_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open_source(tmp_path / "empty") as source, pytest.raises(InputError, match="is empty"):
        list(source)
