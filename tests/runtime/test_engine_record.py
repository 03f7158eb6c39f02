from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import engine_record, load, loading
from solov2_edge.runtime.engine_record import CACHE_VARIABLE, EngineRecord, record_file, recorded, remember

RECORD = EngineRecord("a.onnx", "openvino", {"onnxruntime": 15.0, "openvino": 13.5}, 2, "2026-01-01T00:00:00Z")


@pytest.fixture
def artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "a.onnx"
    path.write_bytes(b"weights")
    return path


def test_what_is_remembered_is_found_again(artefact: Path) -> None:
    assert recorded(artefact) is None
    file = remember(artefact, RECORD)
    assert file == record_file(artefact)
    assert recorded(artefact) == RECORD
    moved = artefact.with_name("other.onnx")
    artefact.rename(moved)
    assert recorded(moved) == RECORD  # it is the bytes that count


def test_another_file_version_or_processor_is_another_record(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from solov2_edge.runtime import machine

    remember(artefact, RECORD)
    found = machine.versions()
    with monkeypatch.context() as patch:
        patch.setattr(machine, "versions", lambda: {**found, "openvino": "1999.1"})
        assert recorded(artefact) is None
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(77)), raising=False)
        assert recorded(artefact) is None
    assert recorded(artefact) == RECORD
    artefact.write_bytes(b"other weights")
    assert recorded(artefact) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine": "openvino"}', "\xff"])
def test_a_damaged_record_is_one_sentence(artefact: Path, text: str) -> None:
    remember(artefact, RECORD).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"is no record of engines .*; delete it, or run advise --remember") as caught:
        recorded(artefact)
    assert "\n" not in str(caught.value)


def test_a_record_without_a_time_of_its_engine_is_refused() -> None:
    with pytest.raises(InputError, match="must hold a time of 'openvino'"):
        EngineRecord("a.onnx", "openvino", {"onnxruntime": 15.0}, None, "")


def test_a_folder_that_cannot_be_written_is_one_sentence(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(artefact))
    with pytest.raises(InputError, match=rf"cannot be written .*; set {CACHE_VARIABLE} to a folder of yours"):
        remember(artefact, RECORD)


@pytest.mark.parametrize(
    ("engine", "opened"), [("openvino", "openvino"), (None, "onnxruntime"), ("ncnn", "onnxruntime")]
)
def test_auto_opens_what_was_recorded_and_else_the_artefacts_own(
    engine: str | None, opened: str, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine is not None:
        remember(artefact, EngineRecord("a.onnx", engine, {engine: 1.0}, None, ""))
    names = {"onnxruntime": "m:onnxruntime", "openvino": "m:openvino"}
    monkeypatch.setattr(loading, "engines_of", lambda _: names)

    class Module:
        def __getattr__(self, name: str) -> object:
            raise NotImplementedError(name)

    monkeypatch.setattr(importlib, "import_module", lambda _: Module())
    with pytest.raises(NotImplementedError, match=opened):
        load(artefact, engine="auto")


def test_auto_takes_no_providers_and_a_named_engine_reads_no_record(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="engine='auto' leaves open which engine runs"):
        load(artefact, engine="auto", providers="cpu")
    monkeypatch.setattr(engine_record, "recorded", lambda _: pytest.fail("read"))
    with pytest.raises(InputError, match="got engine='fast'"):
        load(artefact, engine="fast")
    with pytest.raises(InputError, match="does not exist"):
        load(artefact.with_name("none.onnx"), engine="auto")
