"""Core ML packages on disk: described, the same bytes for the same network, and replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
from solov2_edge.errors import GateError
from solov2_edge.manifest import METADATA_KEY, Manifest

__all__ = ["CLASSES_KEY", "describe", "rewrite_manifest", "save_model", "write_package"]

Model: Any = load_coremltools().proto.Model_pb2.Model
CLASSES_KEY = "solov2_edge.class_names"  # a JSON array, in channel order
# Apple's identifiers are random; any two will do, and fixed ones give equal packages for equal networks.
MODEL_ID = "8f5a3c62-5c5b-4f0e-9d3a-0b0f5a1e6c01"
WEIGHTS_ID = "8f5a3c62-5c5b-4f0e-9d3a-0b0f5a1e6c02"
DATED = "com.github.apple.coremltools.conversion_date"
OWNER = "com.apple.CoreML"


def describe(model: Any, manifest: Manifest, target: str) -> Any:
    """Return the program's specification with the manifest, class names, author, licence and texts for Xcode.

    Args:
        model: coremltools' MLModel.
        manifest: what goes inside, less what only the finished package can tell.
        target: the oldest system, for example ``"iOS16"``.
    """
    spec = model.get_spec()
    contract, network = manifest.input, manifest.spec
    size = f"{contract.height} x {contract.width}"
    texts = spec.description.metadata
    texts.author = "solov2-edge"
    texts.license = manifest.weights_licence
    texts.shortDescription = (
        f"SOLOv2 {network.name}: instance segmentation of {network.num_classes} classes, {manifest.precision}, "
        f"{size} (height x width), {target} or later. Outputs are raw; decode them as docs/coreml.md shows."
    )
    texts.versionString = manifest.tools.get("solov2-edge", "")
    texts.userDefined.pop(DATED, None)
    texts.userDefined[METADATA_KEY] = manifest.embedded().to_json()
    texts.userDefined[CLASSES_KEY] = json.dumps(network.class_names, ensure_ascii=False)
    descriptions = {
        "image": f"RGB picture of {size}: scaled to fit at the top left, the rest filled with the mean colour",
        "tensor": f"normalised picture, float32 1 x 3 x {size}, channels {network.channel_order}",
    }
    spec.description.input[0].shortDescription = descriptions[contract.kind]
    side = network.kernel_size
    outputs = (
        f"class probabilities before points NMS, {network.num_cells} cells x {network.num_classes} classes",
        f"dynamic {side}x{side} kernels, {network.num_cells} cells x {network.kernel_length}",
        f"mask features, {network.feature_channels} x {contract.height // 4} x {contract.width // 4}",
    )
    by_name: Mapping[str, str] = dict(zip(manifest.outputs, outputs, strict=True))
    for output in spec.description.output:
        output.shortDescription = by_name[output.name]
    return spec


def write_package(folder: Path, spec: Any, weights: Path) -> None:
    """Write a package of ``spec`` and the weight file ``weights`` into ``folder``, which must not exist.

    The layout is Apple's, file format 1.0.0.
    """
    data = folder / "Data" / OWNER
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
    shutil.copyfile(weights, data / "weights" / "weight.bin")
    items = {
        MODEL_ID: {
            "author": OWNER,
            "description": "CoreML Model Specification",
            "name": "model.mlmodel",
            "path": f"{OWNER}/model.mlmodel",
        },
        WEIGHTS_ID: {
            "author": OWNER,
            "description": "CoreML Model Weights",
            "name": "weights",
            "path": f"{OWNER}/weights",
        },
    }
    listing = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": MODEL_ID}
    (folder / "Manifest.json").write_text(json.dumps(listing, indent=4) + "\n", encoding="utf-8")


def save_model(folder: Path, model: Any, spec: Any) -> None:
    """Write coremltools' ``model`` with the specification ``spec`` as a package, and drop its temporary copy."""
    with quiet():
        write_package(folder, spec, Path(model.weights_dir) / "weight.bin")
        if model.is_temp_package:
            shutil.rmtree(model.package_path)


def rewrite_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest into the metadata of the saved package in ``folder``; its program stays as it is, byte for byte.

    Raises:
        GateError: something else than the metadata would change.
    """
    file = folder / "Data" / OWNER / "model.mlmodel"
    saved = file.read_bytes()
    spec = Model.FromString(saved)
    spec.description.metadata.userDefined[METADATA_KEY] = manifest.embedded().to_json()
    sealed = spec.SerializeToString(deterministic=True)
    if _without_metadata(saved) != _without_metadata(sealed):
        raise GateError("writing the manifest would change the program; nothing was written")
    file.write_bytes(sealed)


def _without_metadata(data: bytes) -> bytes:
    spec = Model.FromString(data)
    spec.description.ClearField("metadata")
    program: bytes = spec.SerializeToString(deterministic=True)
    return program
