"""Pictures as a source: in order, as a viewer shows them, what cannot be read left out and counted."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_pictures import PictureSource, matching_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, grey in (("b.png", 20), ("a.png", 10), ("deep/c.png", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.full((8, 9, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def greys(text: str | Path) -> list[int]:
    return [int(frame.image.max()) for frame in PictureSource(str(text), matching_pictures(str(text)))]


def test_a_file_a_folder_and_patterns(folder: Path) -> None:
    assert greys(folder / "b.png") == [20]
    assert greys(folder) == [10, 20]
    assert greys(folder / "*.png") == [10, 20]
    assert greys(folder / "**" / "*.png") == [10, 20, 30]
    assert greys(folder / "[bc]*") == [20]


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    (folder / "a.png").rename(folder / "shot[1].png")
    assert greys(folder / "shot[1].png") == [10]


def test_frames_carry_their_file_and_place(folder: Path) -> None:
    source = PictureSource(str(folder), matching_pictures(str(folder)))
    assert (source.mode, source.fps) == (Mode.IMAGE, None)
    assert [(frame.name, frame.index, frame.seconds) for frame in source] == [
        (str(folder / "a.png"), 0, None),
        (str(folder / "b.png"), 1, None),
    ]
    assert source.status().state == "ended"


def test_one_that_cannot_be_read_is_skipped_and_counted(folder: Path) -> None:
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:-20])
    source = PictureSource("it", matching_pictures(str(folder)))
    assert [(frame.name, frame.index) for frame in source] == [(str(folder / "b.png"), 1)]
    status = source.status()
    assert (status.state, status.corrupt) == ("ended", 1)
    assert "a.png" in status.message


def test_none_that_can_be_read_is_an_error(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"^.*a\.png starts like a PNG"):
        list(PictureSource("a", [folder / "a.png"]))
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"none of the 2 pictures of it can be read; the first: .*a\.png"):
        list(PictureSource("it", matching_pictures(str(folder))))


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255  # the left half is white
    good, jpeg = cv2.imencode(".jpg", picture)
    assert good
    # APP1 with one tag: 0x0112, orientation 6: to be turned clockwise by 90 degrees.
    entry = struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    data = jpeg.tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    (frame,) = PictureSource(str(path), [path])
    assert frame.image.shape == (32, 16, 3)
    assert frame.image[:14].min() > 200, "the left half is on top now"
    assert frame.image[18:].max() < 50


def test_closing_ends_it(folder: Path) -> None:
    with PictureSource("it", matching_pictures(str(folder))) as source:
        frames = iter(source)
        next(frames)
    assert list(frames) == []
    assert source.status().state == "closed"


def test_nothing_there_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="matches no picture"):
        matching_pictures(str(folder / "*.tiff"))
    with pytest.raises(InputError, match="does not exist"):
        matching_pictures(str(folder / "none"))
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        matching_pictures(str(folder / "empty"))
    with pytest.raises(InputError, match="holds no picture"):
        PictureSource("it", [])
