from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.manifest import (
    DECODED_NAMES,
    METADATA_KEY,
    GraphDecode,
    InputContract,
    Manifest,
    manifest_path,
    sha256_of,
    size_of,
)
from solov2_edge.runtime import coreml, load
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.coreml import CoremlSession
from solov2_edge.runtime.session import RawOutputs

GREY = np.full((1, 64, 96, 3), 100, np.uint8)


class Unit(Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


class MLCPUComputeDevice: ...


class MLNeuralEngineComputeDevice: ...


class Picture:
    """What Pillow's Image is to coremltools."""

    def __init__(self, pixels: NDArray[np.uint8], mode: str) -> None:
        self.pixels, self.mode = pixels, mode


class FakeMac:
    """coremltools and Pillow as on a Mac; the outputs are ``raw`` with the input's largest value / 1000 added."""

    def __init__(self, manifest: Manifest, raw: RawOutputs) -> None:
        self.manifest, self.raw = manifest, raw
        self.embedded: str | None = manifest.embedded().to_json()
        self.refused: set[str] = set()
        self.plan = True
        self.opened: list[str] = []
        self.fails: Exception | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.image = SimpleNamespace(height=manifest.input.height, width=manifest.input.width)
        self.kind = "imageType" if manifest.input.kind == "image" else "multiArrayType"

    def model(self, path: str, compute_units: Unit) -> Any:
        self.opened.append(compute_units.name)
        if compute_units.name in self.refused:
            warnings.warn("You will not be able to run predict() on this Core ML model.", RuntimeWarning, stacklevel=2)
        arrays = dict(
            zip(self.manifest.outputs, (self.raw.class_scores, self.raw.kernels, self.raw.mask_features), strict=True)
        )

        def compiled() -> str:
            if compute_units.name in self.refused:
                raise Exception("This model was not loaded or compiled with the Core ML Framework.\nmore")
            return f"{path}c"

        def predict(data: dict[str, Any]) -> dict[str, Any]:
            if self.fails is not None:
                raise self.fails
            (given,) = data.values()
            pixels = given.pixels if isinstance(given, Picture) else given
            return {
                name: array + np.float32(pixels.max() / 1000) if name == "mask_features" else array
                for name, array in arrays.items()
            }

        def feature(name: str, kind: str, shape: tuple[int, ...]) -> Any:
            types = SimpleNamespace(
                WhichOneof=lambda _: kind, imageType=self.image, multiArrayType=SimpleNamespace(shape=shape)
            )
            return SimpleNamespace(name=name, type=types)

        description = SimpleNamespace(
            input=[feature(self.manifest.input.name, self.kind, ())],
            output=[
                feature(name, "multiArrayType", self.shapes.get(name, array.shape)) for name, array in arrays.items()
            ],
        )
        return SimpleNamespace(
            get_compiled_model_path=compiled,
            predict=predict,
            user_defined_metadata={METADATA_KEY: self.embedded} if self.embedded else {},
            get_spec=lambda: SimpleNamespace(description=description),
        )

    def load_plan(self, path: str, compute_units: Unit) -> Any:
        if not self.plan:
            raise ValueError("MLComputePlan is not supported.")
        usages: dict[str, Any] = {
            "const": None,
            "conv": SimpleNamespace(preferred_compute_device=MLNeuralEngineComputeDevice()),
            "relu": SimpleNamespace(preferred_compute_device=MLNeuralEngineComputeDevice()),
            "resample": SimpleNamespace(preferred_compute_device=MLCPUComputeDevice()),
        }
        block = SimpleNamespace(operations=list(usages))
        program = SimpleNamespace(functions={"main": SimpleNamespace(block=block)})
        return SimpleNamespace(
            model_structure=SimpleNamespace(program=program),
            get_compute_device_usage_for_mlprogram_operation=usages.__getitem__,
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        modules = {name: ModuleType(name) for name in ("coremltools", "coremltools.models", "PIL", "PIL.Image")}
        plan = ModuleType("coremltools.models.compute_plan")
        plan.MLComputePlan = SimpleNamespace(load_from_path=self.load_plan)  # type: ignore[attr-defined]
        modules["coremltools.models.compute_plan"] = plan
        root: Any = modules["coremltools"]
        root.__version__, root.ComputeUnit, root.models = "9.9", Unit, modules["coremltools.models"]
        root.models.MLModel, root.models.compute_plan = self.model, plan
        modules["PIL.Image"].fromarray = Picture  # type: ignore[attr-defined]
        modules["PIL"].Image = modules["PIL.Image"]  # type: ignore[attr-defined]
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(coreml, "sys", SimpleNamespace(platform="darwin"))  # numpy and others ask the real one


@pytest.fixture
def package(tmp_path: Path, tiny_manifest: Manifest) -> Callable[..., Path]:
    """A folder that stands for a package, with its manifest beside it."""

    def make(manifest: Manifest | None = None, sidecar: bool = True) -> Path:
        manifest = manifest or replace(tiny_manifest, format="coreml")
        path = tmp_path / "tiny.mlpackage"
        path.mkdir()
        (path / "Manifest.json").write_text("{}")
        if sidecar:
            full = replace(manifest, sha256=sha256_of(path), size_bytes=size_of(path))
            manifest_path(path).write_text(full.to_json())
        return path

    return make


@pytest.fixture
def mac(tiny_manifest: Manifest, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch) -> FakeMac:
    fake = FakeMac(replace(tiny_manifest, format="coreml"), tiny_raw)
    fake.install(monkeypatch)
    return fake


@pytest.mark.parametrize("sidecar", [True, False])
def test_image_goes_in_as_a_picture_and_raw_outputs_come_out(
    mac: FakeMac, package: Callable[..., Path], tiny_raw: RawOutputs, sidecar: bool
) -> None:
    with CoremlSession(package(sidecar=sidecar)) as session:
        raw = undecoded(session.run(GREY))
        assert session.engine == "Core ML, coremltools 9.9"
    np.testing.assert_array_equal(raw.class_scores, tiny_raw.class_scores)
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + np.float32(0.1))
    assert mac.opened == ["ALL"]
    with pytest.raises(InputError, match="closed"):
        session.run(GREY)


def test_tensor_goes_in_as_an_array(
    package: Callable[..., Path], tiny_manifest: Manifest, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = replace(tiny_manifest, format="coreml", input=InputContract("tensor", 64, 96))
    FakeMac(manifest, tiny_raw).install(monkeypatch)
    monkeypatch.setitem(sys.modules, "PIL", None)  # and needs no Pillow
    with CoremlSession(package(manifest)) as session:
        raw = undecoded(session.run(np.full((1, 3, 64, 96), 0.5, np.float32)))
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + np.float32(0.0005))


def test_a_whole_frame_through_load(mac: FakeMac, package: Callable[..., Path]) -> None:
    with load(package(), providers="cpu_and_ne") as segment:
        found = segment(np.zeros((64, 96, 3), np.uint8))
    assert [found.class_names[label] for label in found.labels] == ["nut"]
    assert mac.opened == ["CPU_AND_NE"]


def test_providers_are_what_core_ml_plans(mac: FakeMac, package: Callable[..., Path]) -> None:
    with CoremlSession(package()) as session:
        assert session.providers == ("neural engine (2 of 3 operators)", "cpu (1 of 3 operators)")


def test_providers_claim_no_more_than_is_known(mac: FakeMac, package: Callable[..., Path]) -> None:
    mac.plan = False
    with CoremlSession(package(), providers="cpu_and_gpu") as session:
        assert session.providers == ("cpu_and_gpu (what it chooses is not known)",)


def test_a_list_of_units_is_tried_in_order(mac: FakeMac, package: Callable[..., Path]) -> None:
    mac.refused = {"CPU_AND_NE"}
    path = package()
    with CoremlSession(path, providers=("cpu_and_ne", "cpu_only")):
        assert mac.opened == ["CPU_AND_NE", "CPU_ONLY"]
    with pytest.raises(InputError, match=r"cannot be opened by Core ML \(cpu_and_ne: This model was not loaded[^\n]*$"):
        CoremlSession(path, providers="cpu_and_ne")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 2}, "chooses its threads itself"),
        ({"provider_options": {"all": {"a": 1}}}, "take no options"),
        ({"providers": "ane"}, "'ane' names no compute units.*cpu_and_ne"),
        ({"providers": ()}, "empty list"),
    ],
)
def test_impossible_options_are_refused(
    mac: FakeMac, package: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CoremlSession(package(), **options)
    assert mac.opened == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "multiArrayType"}, "takes inputs.*multiArrayType.*imageType"),
        ({"image": SimpleNamespace(height=96, width=64)}, r"\(96, 64\), its manifest says \(64, 96\)"),
        ({"shapes": {"kernels": (19, 5)}}, r"gives kernels as \(19, 5\)"),
        ({"embedded": "{}"}, "schema version"),
    ],
)
def test_a_package_that_is_not_its_manifests_is_refused(
    mac: FakeMac, package: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        setattr(mac, name, value)
    with pytest.raises(InputError, match=message):
        CoremlSession(package())


def test_failures_of_core_ml_are_one_sentence(mac: FakeMac, package: Callable[..., Path]) -> None:
    mac.fails = RuntimeError("Error computing NN outputs.\n at line 7")
    with CoremlSession(package()) as session, pytest.raises(SolovEdgeError, match=r"outputs\.$"):
        session.run(GREY)


@pytest.mark.parametrize(("module", "named"), [("coremltools", "coremltools"), ("PIL", "Pillow")])
def test_what_is_missing_is_named(
    mac: FakeMac, package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, module: str, named: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{named}.*\[coreml\]"):
        CoremlSession(package())


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Core ML")
def test_off_a_mac_one_sentence_says_what_to_do(package: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"Macs and iPhones only.*mil_interpreter\.load\(path\)[^.]*$"):
        load(package())
    with pytest.raises(InputError, match="does not exist"):
        load("absent.mlpackage")


def test_a_program_that_decodes_runs_on_the_cpu_only(
    mac: FakeMac, package: Callable[..., Path], tiny_manifest: Manifest
) -> None:
    limits = GraphDecode(max_candidates=8, max_instances=3)
    manifest = replace(tiny_manifest, format="coreml", decode=limits, outputs=DECODED_NAMES)
    mac.manifest, mac.embedded = manifest, manifest.embedded().to_json()
    mac.shapes = {"scores": (3,), "labels": (3,), "masks": (3, 16, 24)}
    path = package(manifest)
    with pytest.raises(
        InputError, match=r"float32 on the CPU only: give providers='cpu_only', got 'all'.*--decode host"
    ):
        CoremlSession(path)
    with CoremlSession(path, providers="cpu_only") as session:
        assert session.manifest.decode == limits
