"""Calibration sets: what is taken, what is refused, and that batches are the runtime's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.converters.calibration import MIN_PICTURES, read_calibration
from solov2_edge.errors import InputError
from solov2_edge.manifest import InputContract
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.variants import variant


def write(folder: Path, number: int, start: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(start, start + number):
        picture = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed:03}.png"), picture)
    return folder


def test_a_set_is_sorted_and_its_hash_depends_on_contents_only(tmp_path: Path) -> None:
    first = read_calibration(write(tmp_path / "a", MIN_PICTURES))
    assert [p.name for p in first.pictures] == [f"{n:03}.png" for n in range(MIN_PICTURES)]
    assert first.to_manifest() == {"count": MIN_PICTURES, "sha256": first.sha256}
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_calibration(tmp_path / "b").sha256 == first.sha256
    write(tmp_path / "b", 1, start=MIN_PICTURES)
    assert read_calibration(tmp_path / "b").sha256 != first.sha256


def test_too_few_pictures_are_refused_with_the_cure(tmp_path: Path) -> None:
    folder = write(tmp_path / "few", MIN_PICTURES - 1)
    with pytest.raises(InputError, match=r"at least 32 different pictures, got 31 .*--allow-small"):
        read_calibration(folder)
    assert len(read_calibration(folder, allow_small=True).pictures) == MIN_PICTURES - 1
    shutil.copy(folder / "000.png", folder / "copy.png")
    with pytest.raises(InputError, match="got 31"):
        read_calibration(folder)


def test_a_limit_spreads_over_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "many", MIN_PICTURES * 2)
    names = [p.name for p in read_calibration(folder, limit=MIN_PICTURES).pictures]
    assert names == [f"{n:03}.png" for n in range(0, MIN_PICTURES * 2, 2)]
    assert len(read_calibration(folder, limit=1000).pictures) == MIN_PICTURES * 2
    with pytest.raises(InputError, match="positive integer"):
        read_calibration(folder, limit=0)
    with pytest.raises(InputError, match="at least 32"):
        read_calibration(folder, limit=4)


def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_calibration(tmp_path / "nowhere")
    folder = write(tmp_path / "broken", MIN_PICTURES)
    with pytest.raises(InputError, match="is a file; expected a folder"):
        read_calibration(folder / "000.png")
    whole = (folder / "007.png").read_bytes()
    (folder / "007.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"007\.png"):
        read_calibration(folder)


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_batches_are_what_the_runtime_feeds(tmp_path: Path, kind: str) -> None:
    calibration = read_calibration(write(tmp_path / "set", 3), allow_small=True)
    spec, contract = variant("nano"), InputContract(kind, 64, 96)
    batches = list(calibration.batches(spec, contract))
    assert len(batches) == 3
    for path, batch in zip(calibration.pictures, batches, strict=True):
        frame = read_picture(path)
        geometry = fixed_geometry(*frame.shape[:2], 64, 96)
        np.testing.assert_array_equal(batch, preprocess(frame, geometry, kind, spec))
