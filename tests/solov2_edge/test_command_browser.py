from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from solov2_edge.bundled import bundle
from solov2_edge.cli import main
from solov2_edge.demos.browser_engine import WASM
from solov2_edge.manifest import METADATA_KEY, Manifest, manifest_path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder that looks like onnxruntime-web."""
    folder = tmp_path / "engine"
    folder.mkdir()
    for name in WASM:
        (folder / name).write_text(name, encoding="utf-8")
    return folder


Started = tuple[subprocess.Popen[str], str]


@pytest.fixture
def start(engine: Path) -> Callable[..., Started]:
    """Start the verb in a process of its own; returns it and the line that says where the page is."""

    def started(*words: str) -> Started:
        command = [sys.executable, "-m", "solov2_edge", "browser", "--port", "0", "--onnxruntime-web", str(engine)]
        process = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        stream = process.stderr if "--json" in words else process.stdout
        assert stream is not None
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        lines = (line for line in stream if "http://" in line)
        line = next(lines, "")
        watchdog.cancel()
        return process, line

    return started


def address(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def test_it_serves_the_bundled_artefact_until_ctrl_c(start: Callable[..., Started]) -> None:
    process, line = start("--threads", "2")
    assert line.startswith("nano-nuclei.fp32.onnx runs at http://127.0.0.1:")
    with urllib.request.urlopen(address(line) + "config.json", timeout=20) as answer:
        config = json.load(answer)
    assert config["threads"] == 2
    assert len(config["samples"]) == 3
    with urllib.request.urlopen(address(line) + config["artefact"], timeout=20) as answer:
        assert answer.read() == bundle().artefact.read_bytes()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "tested with 1.30.0" in errors  # what stands there is of no known version


def test_json_keeps_stdout_for_one_object(start: Callable[..., Started]) -> None:
    process, line = start("--json")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert json.loads(out)["url"] == address(line)


def test_an_artefact_of_ones_own_has_no_samples(start: Callable[..., Started], tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(bundle().artefact.read_bytes())
    process, line = start(str(own))
    with urllib.request.urlopen(address(line) + "config.json", timeout=20) as answer:
        config = json.load(answer)
    assert (config["artefact"], config["samples"]) == ("artefact/own.onnx", [])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["browser", *words])
    return code, capsys.readouterr().err


def test_bad_input_is_one_sentence(engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("--onnxruntime-web", str(engine))
    damaged, bare, edited = tmp_path / "damaged.onnx", tmp_path / "bare.onnx", tmp_path / "edited.onnx"
    data = bundle().artefact.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    bare.write_bytes(bytes([8, 9]))
    edited.write_bytes(data + bytes([8, 9]))
    manifest_path(edited).write_bytes(manifest_path(bundle().artefact).read_bytes())
    for words, expected in [
        (("nowhere.onnx", *here), "does not exist"),
        ((str(bundle().checkpoint), *here), "a browser runs .onnx artefacts"),
        ((str(damaged), *here), "damaged"),
        ((str(bare), *here), "has no manifest"),
        ((str(edited), *here), "SHA-256"),
        (("--port", "70000", *here), "--port must be from 0 to 65535"),
        (("--threads", "0", *here), "--threads"),
        (("--onnxruntime-web", str(tmp_path / "none")), "does not hold onnxruntime-web"),
        (("--install", "a.onnx"), "give no artefact with it"),
    ]:
        code, said = refused(capsys, *words)
        assert code == 2, words
        assert expected in said
        assert said.count("\n") == 1


def test_without_onnxruntime_web_the_line_that_fetches_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOLOV2_EDGE_CACHE", str(tmp_path / "cache"))
    code, said = refused(capsys)
    assert code == 4
    assert said.rstrip().endswith("which is not installed: solov2-edge browser --install")
    assert os.listdir(tmp_path) == []  # nothing is installed behind the user's back


def test_kernels_that_the_page_does_not_decode_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, artefact = bundle().artefact, tmp_path / "wide.onnx"
    model = onnx.load(made)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            manifest = Manifest.from_json(entry.value)
            entry.value = replace(manifest, spec=replace(manifest.spec, kernel_size=3)).to_json()
    onnx.save(model, artefact)
    assert main(["browser", str(artefact)]) == 2
    assert "decodes 1x1 kernels on unified mask features" in capsys.readouterr().err
