"""A SOLOv2 network to an ncnn artefact with its manifest, put in place only once it is shown to compute the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

import solov2_edge
from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.damping import damped_graph
from solov2_edge.converters.ncnn_graph import Network, network_of, written
from solov2_edge.converters.ncnn_int8 import count_inputs, in_integers
from solov2_edge.converters.ncnn_traceable import NcnnHead, NcnnTraceable
from solov2_edge.converters.noise_gate import judge_noise
from solov2_edge.converters.onnx_trace import trace_onnx
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.converters.rewriting import judge_rewriting
from solov2_edge.converters.stuff import refuse_stuff
from solov2_edge.errors import GateError, SolovEdgeError, require
from solov2_edge.files import replace_folder, write_aside
from solov2_edge.manifest import OUTPUT_NAMES, InputContract, Manifest, manifest_path, sha256_of, size_of
from solov2_edge.model import SOLOv2
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.ncnn_network import HEAD, LEVEL, TRUNK, find_ncnn
from solov2_edge.runtime.ncnn_session import MANIFEST, NcnnSession
from solov2_edge.runtime.session import RawOutputs

__all__ = ["PRECISIONS", "export_ncnn"]

PRECISIONS = ("fp32", "fp16", "int8")
OPSET = 21  # the first whose GroupNormalization is that of PyTorch


def export_ncnn(
    model: SOLOv2,
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    input_kind: str = "image",
    precision: str = "fp32",
    calibration: Calibration | None = None,
    source_sha256: str = "",
    weights_licence: str = "unknown",
    log: Callable[[str], None] | None = None,
) -> Manifest:
    """Export ``model`` at one input size; the folder and its manifest appear only after parity has passed.

    The folder holds ``trunk.param`` and ``.bin``, a network that runs once a picture; ``head.param`` and ``.bin``, one
    that runs at each of the trunk's levels; and ``manifest.json``. docs/ncnn.md has their inputs and outputs.

    Args:
        model: the network; it is not changed.
        path: the artefact, ``*.ncnn``, in an existing folder; the manifest goes beside it.
        height: H of the input in pixels, a multiple of 32.
        width: W of the input in pixels, a multiple of 32.
        input_kind: ``"image"``: RGB planes of 0..255, as ncnn makes them of pixels, normalised in the trunk;
            ``"tensor"``: normalised.
        precision: ``"fp32"``; ``"fp16"``: the weights of convolutions stored in half the room, while what is computed
            in is chosen where the artefact is opened; ``"int8"``: convolutions in integers, symmetric.
        calibration: pictures to take the ranges of ``"int8"`` from; no other precision takes any.
        source_sha256: SHA-256 of the checkpoint, for the manifest.
        weights_licence: licence of the weights, for the manifest.
        log: called with one line per stage.

    Returns:
        The manifest as written beside the artefact.

    Raises:
        InputError: an argument is out of range, or two contradict each other.
        GateError: parity is lost at a stage, which the message names; nothing is written.
        MissingDependencyError: ncnn is not installed.
    """
    artefact = Path(path)
    say = log or (lambda _text: None)
    refuse_stuff(model.spec, "ncnn")
    require(precision in PRECISIONS, f"ncnn precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "int8":
        require(calibration is not None, "int8 needs calibration pictures, got none; name a folder of them")
    else:
        require(calibration is None, f"{precision} takes no calibration pictures; leave them out")
    require(artefact.suffix == ".ncnn", f"an ncnn artefact's name must end in .ncnn, got {artefact.name!r}")
    require(artefact.parent.is_dir(), f"the folder {artefact.parent} does not exist; make it first")
    engine = find_ncnn()
    contract = InputContract(input_kind, height, width)
    traceable, probes = NcnnTraceable(model, contract), Probes(model, contract)
    judge_rewriting(traceable, probes, say)
    manifest = Manifest(
        spec=model.spec,
        format="ncnn",
        precision="fp32",
        input=contract,
        source_sha256=source_sha256,
        tools={"solov2-edge": solov2_edge.__version__, "torch": torch.__version__, "ncnn": engine.__version__},
        weights_licence=weights_licence,
        dcn_lowering="native" if traceable.deform_convs else "none",
    )
    # Beside the target, on the same file system: the finished folder is renamed into place.
    with tempfile.TemporaryDirectory(prefix=f".{artefact.name}.", dir=artefact.parent) as folder:
        work = _Work(*_trace(traceable), contract, Path(folder), probes)
        finished, manifest = work.make(manifest, "writing the networks")
        layers = sum(len(network_of(graph, None).layers) for graph in (work.trunk, work.head))
        say(f"ncnn: {layers} layers, {max(manifest.parity.values()):.1e} of range from PyTorch")
        if precision == "fp16":
            finished, manifest = work.make(replace(manifest, precision=precision), f"storing weights in {precision}")
            say(f"{precision}: {max(manifest.parity.values()):.1e} of range from PyTorch")
        elif calibration is not None:
            finished, manifest = work.round(manifest, calibration, finished, say)
        complete = replace(manifest, sha256=sha256_of(finished), size_bytes=size_of(finished))
        # The old manifest goes first: whenever this is interrupted, what lies there is an artefact with its own
        # manifest beside it or inside it, never with another's.
        manifest_path(artefact).unlink(missing_ok=True)
        replace_folder(finished, artefact)
        write_aside(manifest_path(artefact), complete.to_json())
    return complete


@dataclass(frozen=True, slots=True)
class _Work:
    """One export under way: everything is written and judged in ``folder`` before it is moved into place."""

    trunk: ModelProto
    head: ModelProto
    contract: InputContract
    folder: Path
    probes: Probes

    def make(self, manifest: Manifest, stage: str) -> tuple[Path, Manifest]:
        """Write an artefact, judge what lies on disk, and return it with its manifest, the figures in it."""
        target = self.folder / f"{manifest.precision}.ncnn"
        self._write(target, manifest, self._networks(self.trunk, self.head))
        try:
            measured = self._judge(target, self.probes, stage, manifest.precision)
        except UnsteadyNetworkError:
            if manifest.precision != "fp32":
                raise
            damped = self.folder / "damped.ncnn"
            self._write(damped, manifest, self._networks(damped_graph(self.trunk), damped_graph(self.head)))
            measured = self._judge(damped, self.probes.damped(), stage, manifest.precision)
        return target, self._recorded(target, replace(manifest, parity=measured))

    def round(
        self, manifest: Manifest, calibration: Calibration, exact: Path, say: Callable[[str], None]
    ) -> tuple[Path, Manifest]:
        """Write the artefact in 8 bits, judged beside the float32 one ``exact``, and return it with its manifest."""
        target, spec = self.folder / "int8.ncnn", manifest.spec
        counts = count_inputs(self.trunk, self.head, self._pictures(calibration.batches(spec, self.contract)), say)
        networks = self._networks(self.trunk, self.head)
        rounded = {name: in_integers(networks[name], own) for name, own in zip((TRUNK, HEAD), counts, strict=True)}
        manifest = replace(manifest, precision="int8", calibration=calibration.to_manifest())
        self._write(target, manifest, {name: found.network for name, found in rounded.items()})
        stage = "going to int8"
        with ExitStack() as stack:
            float_run, run = (_runner(stack.enter_context(_opened(path, stage)), stage) for path in (exact, target))
            noise = judge_noise(float_run, run, calibration.batches(spec, self.contract), stage, "int8")
            measured = self.probes.measure(run)
        say(
            f"int8: {sum(found.integer for found in rounded.values())} integer and "
            f"{sum(found.floating for found in rounded.values())} float convolutions, {max(noise.values()):.1e} of "
            "range from float32 on calibration pictures"
        )
        return target, self._recorded(target, replace(manifest, parity=measured))

    def _pictures(self, batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Give inputs as the trunk takes them in ONNX: (1, 3, H, W) float32."""
        for batch in batches:
            planes = batch.transpose(0, 3, 1, 2) if self.contract.kind == "image" else batch
            yield np.ascontiguousarray(planes, np.float32)

    def _networks(self, trunk: ModelProto, head: ModelProto) -> dict[str, Network]:
        picture = (3, self.contract.height, self.contract.width)
        return {TRUNK: network_of(trunk, picture), HEAD: network_of(head, None)}

    @staticmethod
    def _recorded(target: Path, manifest: Manifest) -> Manifest:
        """Put the manifest with its figures into the artefact."""
        (target / MANIFEST).write_text(manifest.embedded().to_json(), encoding="utf-8")
        return manifest

    def _write(self, target: Path, manifest: Manifest, networks: Mapping[str, Network]) -> None:
        target.mkdir()
        for name, network in networks.items():
            text, weights = written(network, manifest.precision)
            (target / f"{name}.param").write_text(text, encoding="ascii", newline="\n")
            (target / f"{name}.bin").write_bytes(weights)
        (target / MANIFEST).write_text(manifest.embedded().to_json(), encoding="utf-8")

    def _judge(self, target: Path, probes: Probes, stage: str, precision: str) -> dict[str, float]:
        with _opened(target, stage) as session:
            return probes.judge(stage, _runner(session, stage), precision)


def _opened(target: Path, stage: str) -> NcnnSession:
    try:
        return NcnnSession(target)
    except SolovEdgeError as error:
        raise GateError(f"ncnn cannot open the networks after {stage}: {error}; nothing was written") from error


def _runner(session: NcnnSession, stage: str) -> Callable[[NDArray[Any]], RawOutputs]:
    """Return what runs a session; where that fails it raises GateError, which names ``stage``."""

    def run(batch: NDArray[Any]) -> RawOutputs:
        try:
            return undecoded(session.run(batch))
        except SolovEdgeError as error:
            raise GateError(f"ncnn cannot run the networks after {stage}: {error}; nothing was written") from error

    return run


def _trace(traceable: NcnnTraceable) -> tuple[ModelProto, ModelProto]:
    """Return trunk and head as ONNX graphs."""
    spec, contract = traceable.spec, traceable.contract
    levels = [f"{LEVEL}{number}" for number in range(len(spec.grids))]
    picture = torch.zeros(1, 3, contract.height, contract.width)
    channels = spec.pyramid_width + 2 * spec.kernel_coordinates
    level = torch.zeros(1, channels, spec.grids[0], spec.grids[0])
    *raw, features = OUTPUT_NAMES
    return (
        trace_onnx(traceable, [picture], [contract.name], [*levels, features], OPSET),
        trace_onnx(NcnnHead(traceable.network), [level], [LEVEL], raw, OPSET),
    )
