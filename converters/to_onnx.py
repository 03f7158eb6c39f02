"""A SOLOv2 network to an ONNX file with its manifest, written only once it is shown to compute the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto

import solov2_edge
from solov2_edge.choices import check_opset
from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.deform_export import NATIVE_OPSET
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.onnx_census import require_integers, take_census
from solov2_edge.converters.onnx_decode import append_decoder, judge_appended, network_of
from solov2_edge.converters.onnx_int8 import Int8Builder, int8_builder
from solov2_edge.converters.onnx_passes import check_size, judge, measure, passes_for, run_passes
from solov2_edge.converters.onnx_quantisable import OnnxQuantisable
from solov2_edge.converters.onnx_quantise import ENGINES
from solov2_edge.converters.onnx_trace import trace_onnx
from solov2_edge.converters.onnx_traceable import OnnxTraceable
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.quantisable import Chooser
from solov2_edge.converters.rewriting import judge_rewriting
from solov2_edge.converters.stuff import refuse_stuff
from solov2_edge.converters.writing import describe, write_artefact
from solov2_edge.errors import InputError, require
from solov2_edge.manifest import DECODED_NAMES, METADATA_KEY, GraphDecode, InputContract, Manifest, raw_names
from solov2_edge.model import SOLOv2

__all__ = ["export_onnx", "onnx_quantisable", "pack"]

DEFAULT_OPSET = 18
DECODED_PICTURES = 4  # of the calibration set, whose decoding is compared beside the probes'
PRECISION_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
PRECISIONS = ", ".join(PRECISION_BYTES)


def export_onnx(
    model: SOLOv2,
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    input_kind: str = "image",
    precision: str = "fp32",
    opset: int | None = None,
    dcn: str = "native",
    calibration: Calibration | None = None,
    target: str = "cpu",
    keep_float: frozenset[str] = frozenset(),
    choose: Chooser | None = None,
    decode: GraphDecode | None = None,
    source_sha256: str = "",
    weights_licence: str = "unknown",
    log: Callable[[str], None] | None = None,
) -> Manifest:
    """Export ``model`` at one input size; the file and its manifest appear only after parity has passed.

    Class scores leave the graph after the sigmoid and before points NMS, which the runtime does, unless ``decode``
    is asked for: then the graph goes on in float32 to scores, labels and mask logits of the instances.

    Args:
        model: the network; it is not changed.
        path: the artefact, ``*.onnx``, in an existing folder; the manifest goes beside it.
        height: H of the input in pixels, a multiple of 32.
        width: W of the input in pixels, a multiple of 32.
        input_kind: ``"image"``: uint8 RGB (1, H, W, 3), normalised in the graph; ``"tensor"``: float32 (1, 3, H, W).
        precision: ``"fp32"``, ``"fp16"`` (weights and activations; inputs and outputs keep their types) or ``"int8"``
            (static, QuantizeLinear and DequantizeLinear around convolutions; everything else stays float).
        opset: ONNX opset 18..22; default: 18, or 19 where a ``DeformConv`` needs it.
        dcn: deformable convolutions as ``"native"`` (DeformConv) or ``"lowered"`` (portable operators).
        calibration: pictures to take the ranges of ``"int8"`` from; no other precision takes any.
        target: who runs an ``"int8"`` file: ``"cpu"``, ONNX Runtime on processors with 8-bit dot products (uint8
            activations), ``"tensorrt"`` (int8, symmetric) or ``"openvino"`` (uint8 activations, nothing rewritten).
        keep_float: layers of an ``"int8"`` file that stay float, by the names of
            :func:`~solov2_edge.converters.onnx_islands.layer_names`.
        choose: decides which layers stay float once the network is calibrated, in place of ``keep_float``; see
            :mod:`solov2_edge.converters.mixed_search`.
        decode: what to decode with inside the graph; None leaves decoding to the host.
        source_sha256: SHA-256 of the checkpoint, for the manifest.
        weights_licence: licence of the weights, for the manifest.
        log: called with one line per stage.

    Returns:
        The manifest as written beside the artefact.

    Raises:
        InputError: an argument is out of range, or two contradict each other.
        GateError: parity is lost at a stage, which the message names, or an ``"int8"`` file does not hold the
            checkpoint's weights; nothing is written.
    """
    artefact = Path(path)
    say = log or (lambda _text: None)
    require(precision in PRECISION_BYTES, f"ONNX precision must be one of {PRECISIONS}, got {precision!r}")
    require(artefact.suffix == ".onnx", f"an ONNX artefact's name must end in .onnx, got {artefact.name!r}")
    require(artefact.parent.is_dir(), f"the folder {artefact.parent} does not exist; make it first")
    require(target in ENGINES, f"the target must be one of {', '.join(ENGINES)}, got {target!r}")
    if precision != "int8":
        require(calibration is None, f"{precision} takes no calibration pictures; leave them out")
        require(not keep_float and target == "cpu", f"{precision} is one file for every engine; leave the target out")
        require(choose is None, f"no layer of a {precision} file is chosen to stay float; ask for int8")
    else:
        require(calibration is not None, "int8 needs calibration pictures, got none; name a folder of them")
        require(choose is None or not keep_float, "layers stay float by name or by search, not both; leave one out")
        refuse_stuff(model.spec, "ONNX int8")
    if decode is not None:
        refuse_stuff(model.spec, "a graph that decodes")
    contract = InputContract(input_kind, height, width)
    decoder = None if decode is None else GraphDecoder(model.spec, decode)
    traceable = OnnxTraceable(model, contract, dcn)
    probes = Probes(model, contract)
    graph, measured = _prove(traceable, probes, _opset(opset, traceable), precision, say)
    builder = None
    # Engines of the other target must refuse the file, so what is not the default's has to be on record.
    record: dict[str, Any] = {"target": target} if target != "cpu" else {}
    quantisation = {**record, "kept_float": sorted(keep_float)} if keep_float else record or None
    if calibration is not None:
        builder = int8_builder(graph, partial(calibration.batches, model.spec, contract), target, probes, log=say)
        if choose is not None:
            chosen = choose(_quantisable(builder, graph, model, contract))
            keep_float, quantisation = chosen.layers, chosen.record
        graph = builder.build(keep_float)
        require_integers(take_census(graph), 1)
        noise = builder.judge(graph, "going to int8")
        measured = measure(graph, probes)
        say(f"int8: {take_census(graph)}, {max(noise.values()):.1e} of range from float32 on calibration pictures")
    check_size(graph, traceable.numbers, PRECISION_BYTES["fp32" if keep_float else precision])

    batches = list(probes.batches)
    if decoder is not None:
        batches += islice(builder.batches(), DECODED_PICTURES) if builder is not None else []
        graph = append_decoder(graph, decoder, contract)
        apart = judge_appended(graph, decoder, contract, batches, "appending the decoding")
        measured = {**measured, "scores": apart}
        say(f"decoding in the graph: {len(graph.graph.node)} nodes, scores {apart:.1e} from the host's")

    manifest = Manifest(
        spec=model.spec,
        format="onnx",
        precision=precision,
        input=contract,
        source_sha256=source_sha256,
        tools={
            "solov2-edge": solov2_edge.__version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        calibration=calibration.to_manifest() if calibration else None,
        quantisation=quantisation,
        parity=measured,
        weights_licence=weights_licence,
        dcn_lowering=dcn if traceable.deform_convs else "none",
        decode=decode,
        outputs=raw_names(model.spec) if decode is None else DECODED_NAMES,
    )
    data = pack(graph, manifest)
    last, stage = onnx.load_from_string(data), "embedding the manifest"
    if decoder is not None:
        judge_appended(last, decoder, contract, batches, stage)
        last = network_of(last)
    if builder is None:
        judge(last, probes, stage, precision)
    else:
        builder.judge(last, stage)
    return write_artefact(artefact, data, manifest)


def onnx_quantisable(
    model: SOLOv2,
    contract: InputContract,
    calibration: Calibration,
    *,
    target: str = "cpu",
    dcn: str = "native",
    log: Callable[[str], None] | None = None,
) -> OnnxQuantisable:
    """Bring ``model`` to where :func:`export_onnx` decides which layers become int8, and stop there.

    Args:
        model: the network; it is not changed.
        contract: the artefact's input.
        calibration: pictures to take ranges from.
        target: as for :func:`export_onnx`.
        dcn: as for :func:`export_onnx`.
        log: called with one line per stage.

    Raises:
        InputError: an unknown target.
        GateError: parity is lost at a stage, which the message names.
    """
    say = log or (lambda _text: None)
    refuse_stuff(model.spec, "ONNX int8")
    require(target in ENGINES, f"the target must be one of {', '.join(ENGINES)}, got {target!r}")
    traceable, probes = OnnxTraceable(model, contract, dcn), Probes(model, contract)
    graph, _ = _prove(traceable, probes, _opset(None, traceable), "fp32", say)
    builder = int8_builder(graph, partial(calibration.batches, model.spec, contract), target, probes, log=say)
    return _quantisable(builder, graph, model, contract)


def _quantisable(builder: Int8Builder, floating: ModelProto, model: SOLOv2, contract: InputContract) -> OnnxQuantisable:
    def finish(graph: ModelProto, precision: str) -> bytes:
        copy = ModelProto()
        copy.CopyFrom(graph)  # the manifest is put into it
        return pack(copy, Manifest(spec=model.spec, format="onnx", precision=precision, input=contract))

    return OnnxQuantisable(builder, floating, finish)


def _prove(
    traceable: OnnxTraceable, probes: Probes, opset: int, precision: str, say: Callable[[str], None]
) -> tuple[ModelProto, dict[str, float]]:
    """Export and rewrite the network, judged at each step; return it with its differences from PyTorch."""
    judge_rewriting(traceable, probes, say)
    graph = _trace(traceable, probes.batches[0], opset)
    measured = judge(graph, probes, "the export", "fp32")
    say(f"opset {opset}: {len(graph.graph.node)} nodes, {max(measured.values()):.1e} of range from PyTorch")
    return run_passes(graph, passes_for(precision), probes, say)


def _opset(asked: int | None, traceable: OnnxTraceable) -> int:
    native_dcn = traceable.lowering == "native" and traceable.deform_convs > 0
    check_opset(asked)
    if native_dcn and asked is not None and asked < NATIVE_OPSET:
        raise InputError(
            f"opset {asked} has no DeformConv, which this network's deformable convolutions become: "
            f"ask for opset {NATIVE_OPSET} or later, or for dcn 'lowered'"
        )
    return asked or (NATIVE_OPSET if native_dcn else DEFAULT_OPSET)


def _trace(traceable: OnnxTraceable, batch: NDArray[Any], opset: int) -> ModelProto:
    return trace_onnx(traceable, [torch.from_numpy(batch)], [traceable.contract.name], raw_names(traceable.spec), opset)


def pack(graph: ModelProto, manifest: Manifest) -> bytes:
    """Return the file's bytes, with the manifest inside, checked to be valid ONNX."""
    for key, text in (
        (METADATA_KEY, manifest.embedded().to_json()),
        ("author", "solov2-edge"),
        ("description", describe(manifest)),
    ):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, text
    graph.producer_name, graph.producer_version = "solov2-edge", solov2_edge.__version__
    data: bytes = graph.SerializeToString(deterministic=True)
    onnx.checker.check_model(data, full_check=True)
    return data
