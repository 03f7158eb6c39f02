from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.bench_frames import frames_sha256, read_frames, resized


def test_a_video_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in (0, 100, 200):
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    frames = read_frames(path, 2)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert [round(float(frame.mean())) for frame in frames] == pytest.approx([0, 100], abs=3)
    assert len(read_frames(path, 30)) == 3


def test_a_picture_and_a_folder(tmp_path: Path) -> None:
    for name, grey in (("b.png", 2), ("a.png", 1), ("c.png", 3)):
        assert cv2.imwrite(str(tmp_path / name), np.full((8, 9, 3), grey, np.uint8))
    assert [int(frame.max()) for frame in read_frames(tmp_path, 2)] == [1, 2]
    assert [int(frame.max()) for frame in read_frames(tmp_path / "c.png", 2)] == [3]


def test_what_gives_no_frame_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_frames(tmp_path / "gone.mp4", 1)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing" * 100)
    with pytest.raises(InputError, match="is neither a picture nor a video"):
        read_frames(broken, 1)
    with pytest.raises(InputError, match="limit of 0"):
        read_frames(broken, 0)


def test_stretching() -> None:
    (frame,) = resized([np.full((10, 20, 3), 7, np.uint8)], 30, 40)
    assert frame.shape == (30, 40, 3)
    assert (frame == 7).all()
    with pytest.raises(InputError, match="got 0 x 40"):
        resized([], 0, 40)


def test_a_hash_of_pixels_and_sizes() -> None:
    flat = np.zeros((2, 3, 3), np.uint8)
    assert frames_sha256([flat]) == frames_sha256([flat.copy()])
    assert len({frames_sha256([flat]), frames_sha256([flat + 1]), frames_sha256([flat.reshape(3, 2, 3)])}) == 3
