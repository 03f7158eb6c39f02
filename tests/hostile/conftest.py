"""The good inputs that the table of bad ones is made from, and the figures at the end of the run."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from solov2_edge.manifest import InputContract, Manifest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the table is a few modules beside this one

from hostile_case import Kit, encoded  # noqa: E402 - found through the line above


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the table of bad inputs showed; the reports also come from other processes."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    found = [dict(report.user_properties) for report in reports if getattr(report, "when", "") == "call"]
    _tell_survivals(terminalreporter, found)
    cases = [properties for properties in found if "bad_input" in properties]
    if not cases:
        return
    groups = Counter(case["bad_input"].split()[0].strip(":") for case in cases)
    endings = Counter(case.get("ending", "crashed") for case in cases)
    slowest = max(cases, key=lambda case: case.get("seconds", 0))
    terminalreporter.section("bad inputs")
    terminalreporter.write_line(f"{len(cases)} cases: {', '.join(f'{n} {group}' for group, n in groups.items())}")
    terminalreporter.write_line(
        f"{endings['refused']} refused in one sentence with nothing written, {endings['right']} with the right result, "
        f"{endings['crashed']} otherwise"
    )
    terminalreporter.write_line(f"the slowest took {slowest.get('seconds', 0):.1f} s: {slowest['bad_input']}")


def _tell_survivals(terminalreporter: pytest.TerminalReporter, found: list[dict[str, object]]) -> None:
    """Print how many kills were survived and how many sessions were opened and closed."""
    kills = sum(int(str(properties.get("kills_survived", 0))) for properties in found)
    cycles = sum(int(str(n)) for properties in found for name, n in properties.items() if name.startswith("cycles of"))
    if kills or cycles:
        terminalreporter.section("survival")
        terminalreporter.write_line(f"{kills} kills while writing survived, no half file taken for a whole one")
        terminalreporter.write_line(f"{cycles} sessions opened and closed, no descriptor and no thread left")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hostile_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory, tflite_builder: ModuleType) -> Kit:
    """Make the good inputs, once per process."""
    import torch

    from solov2_edge.manifest import METADATA_KEY, manifest_path, sha256_of, size_of
    from solov2_edge.model import SOLOv2
    from solov2_edge.spec import BackboneSpec, ModelSpec

    folder = tmp_path_factory.mktemp("good")
    torch.manual_seed(0)
    network = ModelSpec(
        name="custom",
        class_names=("class_0", "class_1", "class_2"),
        backbone=BackboneSpec("basic", (1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8),
        pyramid_width=8,
        tower_width=32,
        mask_width=32,
        mask_channels=32,
    )
    state = {k: v for k, v in SOLOv2(network).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, folder / "good.pth")

    spec = ModelSpec(
        name="tiny",
        class_names=("nut", "bolt"),
        pyramid_width=8,
        tower_width=8,
        mask_width=8,
        mask_channels=4,
        norm_groups=4,
        grids=(3, 2, 2, 1, 1),
    )
    scores, kernels = np.zeros((19, 2), np.float32), np.zeros((19, 4), np.float32)
    features = np.full((4, 16, 24), -10, np.float32)
    scores[3, 0], kernels[3, 0], features[0, :, :12] = 0.9, 1, 10  # one nut in the left half
    outputs = {"class_scores": scores, "kernels": kernels, "mask_features": features}

    def described(path: Path, manifest: Manifest) -> None:
        full = replace(manifest, sha256=sha256_of(path), size_bytes=size_of(path))
        manifest_path(path).write_text(full.to_json())

    onnx = folder / "tiny.onnx"
    manifest = Manifest(spec=spec, format="onnx", precision="fp32", input=InputContract("image", 64, 96))
    metadata = {METADATA_KEY: manifest.embedded().to_json()}
    writer = _module(HERE.parent / "runtime" / "conftest.py")
    batched = {name: array[None] for name, array in outputs.items()}
    onnx.write_bytes(writer._model("image", (1, 64, 96, 3), "uint8", batched, False, metadata))
    described(onnx, manifest)

    tflite = folder / "tiny.tflite"
    manifest = replace(manifest, format="tflite")
    metadata_bytes = {METADATA_KEY: manifest.embedded().to_json().encode()}
    tflite.write_bytes(
        tflite_builder.tiny_tflite(
            outputs, (1, 64, 96, 3), input_name="image", input_type="uint8", metadata=metadata_bytes
        )
    )
    described(tflite, manifest)

    coreml = _package(folder, replace(manifest, format="coreml", input=InputContract("tensor", 64, 96)), outputs)
    described(coreml, replace(manifest, format="coreml", input=InputContract("tensor", 64, 96)))

    pictures = folder / "pictures"
    pictures.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    (pictures / "good.png").write_bytes(encoded(".png", picture))
    annotations = folder / "annotations.json"
    square = [8, 8, 40, 8, 40, 40, 8, 40]
    annotations.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "good.png", "height": 64, "width": 96}],
                "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "bolt"}],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square], "area": 1024, "iscrowd": 0}
                ],
            }
        )
    )
    return Kit(state, folder / "good.pth", onnx, tflite, coreml, pictures / "good.png", pictures, annotations)


def _package(folder: Path, manifest: Manifest, outputs: dict[str, np.ndarray]) -> Path:
    """Write an ML Program that gives fixed arrays, its manifest inside."""
    from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
    from solov2_edge.converters.mil_package import read_package
    from solov2_edge.manifest import METADATA_KEY

    coremltools = load_coremltools()
    path = folder / "tiny.mlpackage"
    with quiet():
        from coremltools.converters.mil.mil import Builder, types

        system = coremltools.target.iOS16
        size = (1, 3, manifest.input.height, manifest.input.width)

        @Builder.program(input_specs=[Builder.TensorSpec(size, types.fp32)], opset_version=system)
        def program(image):
            witness = Builder.reduce_max(x=image, axes=[1, 2, 3], keep_dims=False)
            arrays = [(name, array[None]) for name, array in outputs.items()]
            return tuple(Builder.add(x=array, y=_like(Builder, witness, array), name=name) for name, array in arrays)

        coremltools.convert(
            program,
            convert_to="mlprogram",
            skip_model_load=True,
            pass_pipeline=coremltools.PassPipeline.EMPTY,
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=system,
        ).save(str(path))
    package = read_package(path)
    package.model.description.metadata.userDefined[METADATA_KEY] = manifest.embedded().to_json()
    (package.folder / "model.mlmodel").write_bytes(package.model.SerializeToString())
    return path


def _like(builder: object, witness: object, array: np.ndarray) -> object:
    """Return zero, made from the input, in the rank of ``array``."""
    shaped = builder.reshape(x=witness, shape=[1] * array.ndim)  # type: ignore[attr-defined]
    return builder.mul(x=shaped, y=np.float32(0))  # type: ignore[attr-defined]
