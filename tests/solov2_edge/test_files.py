from __future__ import annotations

import os
from pathlib import Path

import pytest

from solov2_edge.errors import InputError
from solov2_edge.files import output_folder, write_aside


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    assert write_aside(target, "é") == target
    assert target.read_bytes() == "é".encode()
    write_aside(target, b"\x00")
    assert target.read_bytes() == b"\x00"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    write_aside(target, "old")

    def refuse(source: object, destination: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_aside(target, "new")
    assert target.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_output_folders_are_made(tmp_path: Path) -> None:
    folder = output_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert output_folder(folder) == folder


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="must be a folder"):
            output_folder(path)
