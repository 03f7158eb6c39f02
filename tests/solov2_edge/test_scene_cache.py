"""Caches of decoded scenes give back exactly what was decoded, are shared by workers, and are never stale."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.annotated_pictures import CocoPictures, read_pictures, read_scene
from solov2_edge.cli import main
from solov2_edge.console import Console
from solov2_edge.errors import InputError
from solov2_edge.scene_cache import DiskScenes, RamScenes, SceneCache, pack_scene, unpack_scene
from solov2_edge.training_data import open_training


@pytest.fixture(scope="module")
def discs(write_discs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> CocoPictures:
    annotations = write_discs(tmp_path_factory.mktemp("discs"))
    return read_pictures(annotations)


def _disk(pictures: CocoPictures, folder: Path) -> DiskScenes:
    return DiskScenes(folder, pictures.files, [[entry[1:] for entry in objects] for objects in pictures.annotations])


def _same(pictures: CocoPictures, cached: CocoPictures) -> None:
    for index in range(len(pictures.files)):
        expected, got = read_scene(pictures, index), read_scene(cached, index)
        np.testing.assert_array_equal(got.picture, expected.picture)
        np.testing.assert_array_equal(got.masks, expected.masks)
        assert got.labels == expected.labels
        assert got.picture.flags.writeable
        assert got.masks.flags.writeable


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_what_is_kept_is_what_was_decoded(discs: CocoPictures, tmp_path: Path, kind: str) -> None:
    scenes: SceneCache = RamScenes(4, 1 << 20) if kind == "ram" else _disk(discs, tmp_path)
    cached = replace(discs, scenes=scenes)
    _same(discs, cached)
    assert all(scenes.find(index) is not None for index in range(4))
    _same(discs, cached)
    picture = read_scene(cached, 0).picture
    picture[:] = 0  # a caller's own
    _same(discs, cached)


def test_a_picture_without_objects_and_an_empty_mask_survive_packing() -> None:
    picture = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    for masks in (np.zeros((0, 2, 5), np.uint8), np.zeros((2, 2, 5), np.uint8)):
        got = unpack_scene(np.frombuffer(pack_scene(picture, masks), np.uint8))
        np.testing.assert_array_equal(got[0], picture)
        np.testing.assert_array_equal(got[1], masks)


def test_memory_that_is_full_keeps_what_it_has(discs: CocoPictures) -> None:
    scenes = RamScenes(4, 2 * len(pack_scene(*read_scene(discs, 0)[:2])))
    _same(discs, replace(discs, scenes=scenes))
    assert 1 <= sum(scenes.find(index) is not None for index in range(4)) < 4


def test_forked_workers_share_what_one_of_them_decoded(discs: CocoPictures) -> None:
    scenes = RamScenes(4, 1 << 20)
    worker = multiprocessing.get_context("fork").Process(target=read_scene, args=(replace(discs, scenes=scenes), 2))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert scenes.find(2) is not None
    assert scenes.find(1) is None


def test_a_run_with_a_cache_learns_what_one_without_does(discs: CocoPictures, tmp_path: Path) -> None:
    weights = {}
    for kind, workers in (("off", "0"), ("ram", "1")):
        words = ["train", "--annotations", str(discs.files[0].parent), "--input-size", "64x64", "--batch-size", "2"]
        words += ["--epochs", "2", "--copy-paste", "0.5", "--quiet", "--cache", kind, "--workers", workers]
        assert main([*words, "-o", str(tmp_path / kind)]) == 0
        weights[kind] = (tmp_path / kind / "last.safetensors").read_bytes()
    assert weights["ram"] == weights["off"]


def test_the_disk_cache_lies_in_the_users_cache_folder(
    discs: CocoPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOLOV2_EDGE_CACHE", str(tmp_path / "checkpoints"))
    args = argparse.Namespace(annotations=discs.files[0].parent, images=None, classes=None, rename=[], cache="disk")
    pictures = open_training(args, 0, Console())
    assert str(tmp_path / "scenes") in capsys.readouterr().err
    _same(discs, pictures)
    assert len([path for path in (tmp_path / "scenes").rglob("*") if path.is_file()]) == 4


def test_memory_that_is_too_small_is_told(
    discs: CocoPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("solov2_edge.training_data._free_memory", lambda: 1000)
    words = ["train", "--annotations", str(discs.files[0].parent), "-o", str(tmp_path / "run"), "--cache", "ram"]
    assert main(words) == 2
    assert "give --cache disk or off" in capsys.readouterr().err


def test_files_are_never_stale(write_discs: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures = read_pictures(write_discs(folder))
    cached = replace(pictures, scenes=_disk(pictures, tmp_path / "cache"))
    before = read_scene(cached, 0)
    # Another picture under the same name, size and time: only its content tells.
    stat = pictures.files[0].stat()
    cv2.imwrite(str(pictures.files[0]), before.picture[::-1])
    os.utime(pictures.files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    np.testing.assert_array_equal(read_scene(cached, 0).picture, before.picture[::-1])
    # Another mask of the same picture.
    changed = replace(pictures, annotations=(pictures.annotations[0][:1], *pictures.annotations[1:]))
    assert len(read_scene(replace(changed, scenes=_disk(changed, tmp_path / "cache")), 0).masks) == 1


def test_a_damaged_file_is_written_anew(discs: CocoPictures, tmp_path: Path) -> None:
    cached = replace(discs, scenes=_disk(discs, tmp_path))
    _same(discs, cached)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 4
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-5])
    _same(discs, cached)
    assert all(path.stat().st_size > 1000 for path in files)


def test_a_folder_that_cannot_be_written_is_one_sentence(discs: CocoPictures, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache off"):
        read_scene(replace(discs, scenes=_disk(discs, tmp_path / "file" / "cache")), 0)
