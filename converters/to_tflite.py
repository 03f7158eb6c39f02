"""A SOLOv2 network to a TFLite file with its manifest, written only once it is shown to compute the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import solov2_edge
from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.quantisable import Chooser, Chosen
from solov2_edge.converters.rewriting import judge_rewriting
from solov2_edge.converters.stuff import refuse_stuff
from solov2_edge.converters.tflite_decode import TfliteGraphDecoder, append_decoder, judge_appended
from solov2_edge.converters.tflite_half import to_half
from solov2_edge.converters.tflite_judge import check_graph, check_size, judge, judge_integers, measure
from solov2_edge.converters.tflite_lower import lower
from solov2_edge.converters.tflite_metadata import embed_manifest
from solov2_edge.converters.tflite_pack import packed
from solov2_edge.converters.tflite_quantisable import TfliteQuantisable
from solov2_edge.converters.tflite_quantise import PRECISIONS as QUANTISED
from solov2_edge.converters.tflite_quantise import count_for, quantise
from solov2_edge.converters.tflite_traceable import TfliteTraceable
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.converters.writing import write_artefact
from solov2_edge.errors import require
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, GraphDecode, InputContract, Manifest
from solov2_edge.model import SOLOv2

__all__ = ["PRECISIONS", "export_tflite", "tflite_quantisable"]

PRECISIONS = ("fp32", "fp16", *QUANTISED)
CALIBRATED = tuple(precision for precision, (_, bits) in QUANTISED.items() if bits)
PRECISION_BYTES = {"fp32": 4, "fp16": 2}
DECODED_PICTURES = 4  # of the calibration set, whose decoding is compared beside the probes'
TOOLS = ("litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer")


def export_tflite(
    model: SOLOv2,
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    input_kind: str = "image",
    precision: str = "fp32",
    calibration: Calibration | None = None,
    keep_float: frozenset[str] = frozenset(),
    choose: Chooser | None = None,
    decode: GraphDecode | None = None,
    source_sha256: str = "",
    weights_licence: str = "unknown",
    log: Callable[[str], None] | None = None,
) -> Manifest:
    """Export ``model`` at one input size; the file and its manifest appear only after parity has passed.

    Class scores leave the graph after the sigmoid and before points NMS, which the runtime does, unless ``decode`` is
    asked for: then the graph goes on to scores, labels and mask logits of the instances. Outputs have no batch
    dimension and are read by name from the one signature: ``class_scores`` (cells, classes), ``kernels`` (cells, E),
    ``mask_features`` (E, H/4, W/4).

    Args:
        model: the network; it is not changed.
        path: the artefact, ``*.tflite``, in an existing folder; the manifest goes beside it.
        height: H of the input in pixels, a multiple of 32.
        width: W of the input in pixels, a multiple of 32.
        input_kind: ``"image"``: uint8 RGB (1, H, W, 3), normalised in the graph; ``"tensor"``: float32 (1, 3, H, W).
        precision: ``"fp32"``, ``"fp16"`` (weights; activations are what the device computes in), ``"int8-dynamic"``,
            ``"int8"`` or ``"int16x8"``; see :func:`~solov2_edge.converters.tflite_quantise.quantise`.
        calibration: pictures for ``"int8"`` and ``"int16x8"``, which need them; no other precision takes any.
        keep_float: layers of an ``"int8"`` file that stay float, by the names of
            :attr:`~solov2_edge.converters.tflite_quantisable.TfliteQuantisable.layers`.
        choose: decides which layers stay float once the network is calibrated, in place of ``keep_float``; see
            :mod:`solov2_edge.converters.mixed_search`.
        decode: what to decode with inside the graph, in float32 whatever the precision; None leaves it to the host.
        source_sha256: SHA-256 of the checkpoint, for the manifest.
        weights_licence: licence of the weights, for the manifest.
        log: called with one line per stage.

    Returns:
        The manifest as written beside the artefact.

    Raises:
        InputError: an argument is out of range, or two contradict each other.
        GateError: parity is lost at a stage, which the message names; nothing is written.
    """
    target = Path(path)
    say = log or (lambda _text: None)
    refuse_stuff(model.spec, "TFLite")
    require(precision in PRECISIONS, f"TFLite precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    require(target.suffix == ".tflite", f"a TFLite artefact's name must end in .tflite, got {target.name!r}")
    require(target.parent.is_dir(), f"the folder {target.parent} does not exist; make it first")
    if precision not in CALIBRATED:
        require(calibration is None, f"{precision} takes no calibration pictures; leave them out")
    else:
        require(calibration is not None, f"{precision} needs calibration pictures, got none; name a folder of them")
    kept = bool(keep_float) or choose is not None
    require(precision == "int8" or not kept, f"no layer of a {precision} file is chosen to stay float; ask for int8")
    require(choose is None or not keep_float, "layers stay float by name or by search, not both; leave one out")
    contract = InputContract(input_kind, height, width)
    decoder = None if decode is None else TfliteGraphDecoder(model.spec, decode)
    traceable, probes = TfliteTraceable(model, contract), Probes(model, contract)
    flatbuffer, measured = _prove(traceable, probes, say)
    original, stage = flatbuffer, f"going to {precision}"
    quantisation: dict[str, Any] | None = None
    if calibration is not None:
        batches = partial(calibration.batches, model.spec, contract)
        counts, islands = count_for(original, batches(), log=say), None
        if kept:
            quantisable = _quantisable(original, traceable, counts)
            chosen = choose(quantisable) if choose else Chosen(keep_float, {"kept_float": sorted(keep_float)})
            islands, quantisation = quantisable.islands(chosen.layers), chosen.record
        flatbuffer = packed(quantise(original, precision, islands=islands, counts=counts, log=say))
        noise = judge_integers(original, flatbuffer, traceable, batches(), stage, precision)
        measured = measure(flatbuffer, traceable, probes)
        say(f"{precision}: {max(noise.values()):.1e} of range from float32 on calibration pictures")
    elif precision != "fp32":
        flatbuffer = packed(to_half(original) if precision == "fp16" else quantise(original, precision, log=say))
        measured = judge(flatbuffer, traceable, probes, stage, precision)
        say(f"{precision}: {max(measured.values()):.1e} of range from PyTorch")
    if precision in PRECISION_BYTES:
        check_size(flatbuffer, traceable.numbers, PRECISION_BYTES[precision])

    network, tested = flatbuffer, list(probes.batches)
    if decoder is not None:
        tested += islice(batches(), DECODED_PICTURES) if calibration is not None else []
        flatbuffer = append_decoder(network, decoder, contract)
        apart = judge_appended(network, flatbuffer, decoder, contract, tested, "appending the decoding")
        measured = {**measured, "scores": apart}
        say(f"decoding in the graph: scores {apart:.1e} from the host's")

    manifest = Manifest(
        spec=model.spec,
        format="tflite",
        precision=precision,
        input=contract,
        source_sha256=source_sha256,
        tools={"solov2-edge": solov2_edge.__version__, "torch": torch.__version__}
        | {tool: version(tool) for tool in TOOLS},
        calibration=calibration.to_manifest() if calibration else None,
        quantisation=quantisation,
        parity=measured,
        weights_licence=weights_licence,
        dcn_lowering="lowered" if traceable.deform_convs else "none",
        decode=decode,
        outputs=OUTPUT_NAMES if decode is None else DECODED_NAMES,
    )
    flatbuffer = embed_manifest(flatbuffer, manifest.embedded().to_json())
    stage = "embedding the manifest"
    if decoder is not None:
        judge_appended(network, flatbuffer, decoder, contract, tested, stage)
    elif calibration is not None:
        judge_integers(original, flatbuffer, traceable, batches(), stage, precision)
    else:
        judge(flatbuffer, traceable, probes, stage, precision)
    return write_artefact(target, flatbuffer, manifest)


def tflite_quantisable(
    model: SOLOv2,
    contract: InputContract,
    calibration: Calibration,
    *,
    log: Callable[[str], None] | None = None,
) -> TfliteQuantisable:
    """Bring ``model`` to where :func:`export_tflite` decides which layers become int8, and stop there.

    Args:
        model: the network; it is not changed.
        contract: the artefact's input.
        calibration: pictures to take ranges from.
        log: called with one line per stage.

    Raises:
        GateError: parity is lost at a stage, which the message names.
    """
    say = log or (lambda _text: None)
    refuse_stuff(model.spec, "TFLite")
    traceable = TfliteTraceable(model, contract)
    flatbuffer, _ = _prove(traceable, Probes(model, contract), say)
    return _quantisable(
        flatbuffer, traceable, count_for(flatbuffer, calibration.batches(model.spec, contract), log=say)
    )


def _quantisable(flatbuffer: bytes, traceable: TfliteTraceable, counts: Mapping[str, ValueCounts]) -> TfliteQuantisable:
    def finish(content: bytes, precision: str) -> bytes:
        manifest = Manifest(spec=traceable.spec, format="tflite", precision=precision, input=traceable.contract)
        return embed_manifest(packed(content), manifest.embedded().to_json())

    return TfliteQuantisable(flatbuffer, traceable, counts, finish)


def _prove(traceable: TfliteTraceable, probes: Probes, say: Callable[[str], None]) -> tuple[bytes, dict[str, float]]:
    """Lower the network to TFLite, judged at each step; return it with its differences from PyTorch."""
    judge_rewriting(traceable, probes, say)
    say("lowering the network to TFLite, which takes a while")
    flatbuffer = lower(traceable, probes.batches[0])
    facts = check_graph(flatbuffer)
    measured = judge(flatbuffer, traceable, probes, "the conversion", "fp32")
    say(f"TFLite: {sum(facts.ops.values())} operators, {max(measured.values()):.1e} of range from PyTorch")
    return flatbuffer, measured
