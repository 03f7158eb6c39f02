"""TensorRT's options, as a pretended ONNX Runtime gets them: no TensorRT runs here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest, sha256_of
from solov2_edge.runtime import load
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.ort_tensorrt import CACHE_VARIABLE, TENSORRT, engine_cache, prepare_cache, tensorrt_options

MakeOnnx = Callable[..., Path]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "engines" / "here"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, dict[str, Any]]]]:
    """Pretend that TensorRT and CUDA were built in; hold the providers every session was opened with."""
    real, seen = onnxruntime.InferenceSession, []

    def open_session(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        seen.append(providers)
        session = real(path, options, providers=[CPU])
        session.get_providers = lambda: [name for name, _ in providers]
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    return seen


def int8(manifest: Manifest, target: str | None) -> Manifest:
    return replace(manifest, precision="int8", quantisation={"target": target} if target else None)


def test_a_float_file_gets_half_precision_and_both_caches(make_onnx: MakeOnnx, asked: Any, cache: Path) -> None:
    path = make_onnx()
    session = OrtSession(path, providers="tensorrt")
    engines = cache / f"{sha256_of(path)[:16]}-ort{onnxruntime.__version__}"
    assert asked == [
        [
            (
                TENSORRT,
                {
                    "trt_fp16_enable": True,
                    "trt_int8_enable": False,
                    "trt_engine_cache_enable": True,
                    "trt_timing_cache_enable": True,
                    "trt_engine_cache_path": str(engines),
                    "trt_timing_cache_path": str(cache),
                },
            )
        ]
    ]
    assert engines.is_dir(), "ONNX Runtime makes the last folder of a path only"
    assert session.providers == (TENSORRT,)


def test_an_engine_that_does_not_fit_any_more_names_its_folder(
    make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch, asked: Any, cache: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("could not deserialize engine from cache")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(InputError, match=r"deserialize engine from cache; delete .*/here/\S+ if TensorRT was updated"):
        OrtSession(make_onnx(), providers="tensorrt")


def test_without_a_sidecar_the_manifest_inside_says_the_same(make_onnx: MakeOnnx, asked: Any) -> None:
    path = make_onnx()
    OrtSession(path, providers="tensorrt")
    OrtSession(make_onnx(sidecar=False), providers="tensorrt")
    assert asked[0] == asked[1]


def test_the_symmetric_int8_file_gets_integers(make_onnx: MakeOnnx, tiny_manifest: Manifest, asked: Any) -> None:
    with load(make_onnx(manifest=int8(tiny_manifest, "tensorrt")), providers="tensorrt"):
        pass
    assert (asked[0][0][1]["trt_int8_enable"], asked[0][0][1]["trt_fp16_enable"]) == (True, True)


@pytest.mark.parametrize("target", [None, "cpu"])
def test_the_int8_file_for_cpus_is_refused(
    make_onnx: MakeOnnx, tiny_manifest: Manifest, asked: Any, target: str | None
) -> None:
    path = make_onnx(manifest=int8(tiny_manifest, target))
    with pytest.raises(InputError, match=r"is an int8 file for CPUs, .* convert with --precision int8 --for tensorrt"):
        OrtSession(path, providers="tensorrt")
    assert asked == []


def test_in_a_fallback_list_the_int8_file_for_cpus_goes_on_to_the_next(
    make_onnx: MakeOnnx, tiny_manifest: Manifest, asked: Any, cache: Path
) -> None:
    session = OrtSession(make_onnx(manifest=int8(tiny_manifest, None)), providers=("tensorrt", "cuda", "cpu"))
    assert asked == [[(CUDA, {}), (CPU, {})]]
    assert session.providers == (CUDA, CPU)
    assert not cache.exists()


def test_every_request_of_a_fallback_list_has_the_options(make_onnx: MakeOnnx, asked: Any) -> None:
    OrtSession(make_onnx(), providers=("cuda", "tensorrt"), provider_options={"tensorrt": {"device_id": 1}})
    assert asked[0][0] == (CUDA, {})
    assert asked[0][1][1]["device_id"] == 1
    assert asked[0][1][1]["trt_engine_cache_enable"] is True


def test_other_providers_read_no_manifest_early(make_onnx: MakeOnnx, asked: Any, cache: Path) -> None:
    OrtSession(make_onnx(), providers="cuda")
    assert asked == [[(CUDA, {})]]
    assert not cache.exists()


def options_of(manifest: Manifest, **given: Any) -> dict[str, Any]:
    return tensorrt_options("x.onnx", replace(manifest, sha256="ab" * 32), given, "1.23.0")


def test_what_the_user_gives_wins(tiny_manifest: Manifest, cache: Path) -> None:
    found = options_of(
        tiny_manifest,
        trt_fp16_enable=False,
        trt_engine_cache_path="/data/engines",
        trt_timing_cache_enable="0",
        trt_max_workspace_size=1 << 30,
    )
    assert found == {
        "trt_fp16_enable": False,
        "trt_int8_enable": False,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": "/data/engines",
        "trt_timing_cache_enable": "0",
        "trt_max_workspace_size": 1 << 30,
    }
    assert "trt_engine_cache_path" not in options_of(tiny_manifest, trt_engine_cache_enable=False)
    # An ONNX Runtime before 1.17 does not know the option.
    assert "trt_timing_cache_path" not in options_of(tiny_manifest, trt_timing_cache_path=None)


def test_another_artefact_or_engine_has_another_folder(tiny_manifest: Manifest, cache: Path) -> None:
    folders = {
        engine_cache(replace(tiny_manifest, sha256=digest * 64), version)
        for digest in "ab"
        for version in ("1.22.0", "1.23.0")
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {cache}


def test_the_users_cache_is_the_default(tiny_manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    folder = engine_cache(tiny_manifest, "1")
    assert folder.is_absolute()
    assert folder.parent.name == "tensorrt"
    assert "solov2-edge" in folder.parts


@pytest.mark.parametrize(
    ("precision", "given", "message"),
    [
        ("fp32", {"trt_int8_enable": True}, "asked of x.onnx, whose fp32 numbers have no integer scales; convert with"),
        ("fp16", {"trt_int8_enable": "1"}, "whose fp16 numbers have no integer scales"),
        ("fp16", {"trt_fp16_enable": False}, "trt_fp16_enable is off for x.onnx, whose numbers are fp16"),
        ("int8", {"trt_int8_enable": 0}, "trt_int8_enable is off for x.onnx, whose convolutions are int8"),
        ("int8", {"trt_int8_calibration_table_name": "t"}, "which holds its own scales"),
        (
            "fp32",
            {"trt_engine_cache_enable": False, "trt_engine_cache_path": "a"},
            "trt_engine_cache_path names a cache",
        ),
        (
            "fp32",
            {"trt_timing_cache_enable": None, "trt_timing_cache_path": "a"},
            "trt_timing_cache_path names a cache",
        ),
        ("fp32", {"trt_dla_enable": True, "trt_fp16_enable": False}, "trt_dla_enable needs trt_fp16_enable or"),
        ("fp32", {"trt_fp16_enable": "yes"}, "trt_fp16_enable must be True or False, got 'yes'"),
        ("fp32", {"trt_fp16_enable": 2}, "trt_fp16_enable must be True or False, got 2"),
    ],
)
def test_contradictions_are_refused(
    tiny_manifest: Manifest, precision: str, given: dict[str, Any], message: str
) -> None:
    manifest = int8(tiny_manifest, "tensorrt") if precision == "int8" else replace(tiny_manifest, precision=precision)
    with pytest.raises(InputError, match=message) as caught:
        options_of(manifest, **given)
    assert "\n" not in str(caught.value)


def test_a_calibration_table_makes_a_float_file_int8(tiny_manifest: Manifest) -> None:
    given = {"trt_int8_enable": True, "trt_int8_calibration_table_name": "table.flatbuffers"}
    assert options_of(tiny_manifest, **given)["trt_int8_enable"] is True
    assert options_of(tiny_manifest, trt_dla_enable=True)["trt_dla_enable"] is True


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=f"cannot be made or written; set {CACHE_VARIABLE} to a folder of yours"):
        prepare_cache({"trt_engine_cache_path": str(tmp_path / "file" / "engines")})
