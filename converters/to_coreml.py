"""A SOLOv2 network to a Core ML package with its manifest, written only once the saved program is shown to agree."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import solov2_edge
from solov2_edge.choices import check_system
from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.coreml_activations import activation_passes, observe_ranges
from solov2_edge.converters.coreml_compress import COMPRESSED, convolutions, weight_passes
from solov2_edge.converters.coreml_decode import append_decoder
from solov2_edge.converters.coreml_gates import check_compression, judge_package, measure_package
from solov2_edge.converters.coreml_network import CoremlNetwork
from solov2_edge.converters.coreml_package import describe, rewrite_manifest, save_model
from solov2_edge.converters.coreml_program import convert_program, export_program, program_size
from solov2_edge.converters.coreml_toolchain import coremltools_version
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.rewriting import judge_rewriting
from solov2_edge.converters.stuff import refuse_stuff
from solov2_edge.errors import require
from solov2_edge.files import replace_folder, write_aside
from solov2_edge.manifest import DECODED_NAMES, GraphDecode, InputContract, Manifest, manifest_path, sha256_of, size_of
from solov2_edge.model import SOLOv2

__all__ = ["PRECISIONS", "export_coreml"]

PRECISIONS = ("fp32", "fp16", *COMPRESSED)
WEIGHTS_ONLY = tuple(precision for precision in COMPRESSED if precision != "w8a8")


def export_coreml(
    model: SOLOv2,
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    input_kind: str = "image",
    precision: str = "fp32",
    calibration: Calibration | None = None,
    deployment_target: str | None = None,
    decode: GraphDecode | None = None,
    source_sha256: str = "",
    weights_licence: str = "unknown",
    log: Callable[[str], None] | None = None,
) -> Manifest:
    """Export ``model`` at one input size as an ML Program; it appears only after its gates have passed.

    The saved package is executed by the program interpreter. First a float32 twin must agree with PyTorch within the
    float32 bound, then for every other precision a float16 twin within float16's. Compressed weights must each be
    within their own rounding of the float weight, and nothing else may have changed; what that does to the outputs is
    measured and recorded, not judged. Quantised activations are held to the loose bound of rounded precisions. How
    much accuracy either costs, only an evaluation on pictures tells.

    Class scores leave the program after the sigmoid and before points NMS, which the host does, unless ``decode`` is
    asked for: then the program goes on in float32 to scores, labels and mask logits of the instances.

    Args:
        model: the network; it is not changed.
        path: the artefact, ``*.mlpackage``, in an existing folder; the manifest goes beside it.
        height: H of the input in pixels, a multiple of 32.
        width: W of the input in pixels, a multiple of 32.
        input_kind: ``"image"``: Core ML's image type, RGB, normalised in the program; ``"tensor"``: float32
            (1, 3, H, W), normalised.
        precision: ``"fp32"``; ``"fp16"``; weights compressed and float16 otherwise: ``"int8"`` (linear, per output
            channel), ``"palette6"``, ``"palette4"`` (k-means tables per layer), ``"int4"`` (linear, in blocks of
            about 32 input channels); or ``"w8a8"``: 8-bit weights and activations.
        calibration: pictures that the ranges of w8a8's activations are taken from; for no other precision.
        deployment_target: oldest system, ``"iOS16"``, ``"iOS17"`` or ``"iOS18"`` (macOS 13, 14, 15); default: the
            oldest that knows the precision's operators: iOS17 for w8a8, iOS18 for int4, else iOS16.
        decode: what to decode with inside the program; None leaves decoding to the host.
        source_sha256: SHA-256 of the checkpoint, for the manifest.
        weights_licence: licence of the weights, for the manifest.
        log: called with one line per stage.

    Returns:
        The manifest as written beside the artefact.

    Raises:
        InputError: an argument is out of range, or two contradict each other.
        GateError: parity is lost at a stage, which the message names; nothing is written.
        ModuleNotFoundError: coremltools is not installed.
    """
    artefact = Path(path)
    say = log or (lambda _text: None)
    refuse_stuff(model.spec, "Core ML")
    require(precision in PRECISIONS, f"Core ML precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    require(artefact.suffix == ".mlpackage", f"a Core ML artefact's name must end in .mlpackage, got {artefact.name!r}")
    require(artefact.parent.is_dir(), f"the folder {artefact.parent} does not exist; make it first")
    require(
        precision != "w8a8" or calibration is not None,
        "w8a8 takes the ranges of activations from calibration pictures; give a folder of them",
    )
    require(
        precision == "w8a8" or calibration is None,
        f"{precision} needs no calibration pictures; leave them out, or convert to w8a8",
    )
    target = check_system(deployment_target, precision)
    contract = InputContract(input_kind, height, width)
    decoder = None if decode is None else GraphDecoder(model.spec, decode)
    network = CoremlNetwork(model, contract)

    probes = Probes(model, contract)
    judge_rewriting(network, probes, say)
    manifest = Manifest(
        spec=model.spec,
        format="coreml",
        precision=precision,
        input=contract,
        source_sha256=source_sha256,
        tools={
            "solov2-edge": solov2_edge.__version__,
            "torch": torch.__version__,
            "coremltools": coremltools_version(),
        },
        calibration=calibration.to_manifest() if calibration is not None else None,
        weights_licence=weights_licence,
        dcn_lowering="lowered" if network.deform_convs else "none",
    )
    # Beside the target, on the same file system: the finished package is renamed into place.
    with tempfile.TemporaryDirectory(prefix=f".{artefact.name}.", dir=artefact.parent) as folder:
        work = _Work(network, export_program(network), Path(folder), manifest, target, probes, say)
        package, complete = work.make(precision, calibration)
        if decoder is not None:
            package, complete = work.decoded(package, complete, decoder)
        # The old manifest goes first: whenever this is interrupted, what lies there is an artefact with its own
        # manifest beside it or inside it, never with another's.
        manifest_path(artefact).unlink(missing_ok=True)
        replace_folder(package, artefact)
        write_aside(manifest_path(artefact), complete.to_json())
    return complete


@dataclass(frozen=True, slots=True)
class _Work:
    """One export under way: everything is saved and judged in ``folder`` before it is moved into place."""

    network: CoremlNetwork
    exported: Any
    folder: Path
    manifest: Manifest
    target: str
    probes: Probes
    say: Callable[[str], None]

    def make(self, precision: str, calibration: Calibration | None) -> tuple[Path, Manifest]:
        """Return the finished package and its complete manifest."""
        stage = "converting to Core ML"
        model = self._convert("fp32")
        exact, manifest = self._judged(model, stage, replace(self.manifest, precision="fp32"))
        if precision == "fp32":
            return exact, manifest
        model = self._convert("fp16")
        half, manifest = self._judged(model, "converting to float16", replace(self.manifest, precision="fp16"))
        if precision == "fp16":
            return half, manifest
        found = convolutions(model)
        passes = weight_passes(precision, found)
        if calibration is not None:
            ranges = observe_ranges(half, calibration.batches(self.network.spec, self.network.contract))
            passes = [*activation_passes(found, ranges), *passes]
        compressed = self._convert("fp16", passes)
        package, manifest = self._judged(compressed, f"compressing to {precision}", self.manifest)
        part = check_compression(precision, found, exact, half, package)
        self.say(f"every compressed weight is within its own rounding of the float weight (at most {part:.2f} of it)")
        return package, manifest

    def decoded(self, package: Path, manifest: Manifest, decoder: GraphDecoder) -> tuple[Path, Manifest]:
        """Return a finished package with decoding appended, and its complete manifest."""
        target = self.folder / "decoded.mlpackage"
        whole = replace(manifest, decode=decoder.decode, outputs=DECODED_NAMES)
        apart = append_decoder(package, target, decoder, manifest, whole, self.target, self.probes.batches)
        self.say(f"decoding in the graph: scores {apart:.1e} from the host's")
        whole = replace(whole, parity={**manifest.parity, "scores": apart})
        rewrite_manifest(target, whole)
        return target, replace(whole, sha256=sha256_of(target), size_bytes=size_of(target))

    def _convert(self, computing: str, passes: Any = ()) -> Any:
        return convert_program(self.network, self.exported, computing, self.target, passes)

    def _judged(self, model: Any, stage: str, manifest: Manifest) -> tuple[Path, Manifest]:
        """Save a program, judge what lies on disk, and add the figures to the manifest inside."""
        package = self.folder / f"{manifest.precision}.mlpackage"
        operators = program_size(model)
        save_model(package, model, describe(model, manifest, self.target))
        judge = measure_package if manifest.precision in WEIGHTS_ONLY else judge_package
        measured = judge(package, self.probes, stage, manifest.precision)
        self.say(f"{stage}: {operators} operators, {max(measured.values()):.1e} of range from PyTorch")
        judged = replace(manifest, parity=measured)
        rewrite_manifest(package, judged)
        return package, replace(judged, sha256=sha256_of(package), size_bytes=size_of(package))
