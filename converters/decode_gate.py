"""The gate of decoding inside a graph: the same instances as the host decodes from the same raw outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.instance_parity import decode_findings
from solov2_edge.errors import GateError
from solov2_edge.manifest import GraphDecode, InputContract
from solov2_edge.runtime.candidates import find_candidates
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.decoded import baked_options, decoded_instances
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.planted import DISC_CHANNELS, planted_outputs
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs
from solov2_edge.spec import ModelSpec

__all__ = ["count_candidates", "host_instances", "judge_decoder", "judge_decoding"]

PLANTED = (0, 1, 20)
ROUNDINGS = 8
TIED_SCORES = (0.0, 0.25, 0.5, 0.75)


def count_candidates(raw: RawOutputs, spec: ModelSpec, baked: GraphDecode) -> int:
    """Return how many candidates a graph would need room for."""
    return len(find_candidates(raw.class_scores, spec.grids, baked.score_threshold, baked.points_nms))


def host_instances(raw: RawOutputs, geometry: Geometry, spec: ModelSpec, baked: GraphDecode) -> Instances:
    """Decode on the host what a graph decodes: of more candidates than it has room for, those of best class score."""
    options = baked_options(baked)
    found = find_candidates(raw.class_scores, spec.grids, baked.score_threshold, baked.points_nms)
    if len(found) > baked.max_candidates:
        best = np.argsort(-found.scores, kind="stable")[: baked.max_candidates]
        scores = np.zeros_like(raw.class_scores)
        scores[found.cells[best], found.labels[best]] = found.scores[best]
        # What is left has passed points NMS; beside candidates that are gone it must not be asked again.
        raw, options = replace(raw, class_scores=scores), replace(options, points_nms=False)
    return decode(raw, geometry, spec, options)


def judge_decoder(
    run: Callable[[RawOutputs], DecodedOutputs], decoder: GraphDecoder, contract: InputContract, stage: str
) -> float:
    """Compare decodings of raw outputs that no network gave: planted instances, none, and ties everywhere.

    Args:
        run: the decoder in an engine.
        decoder: what it should compute.
        contract: the network's input.
        stage: what was just done, for the message.

    Returns:
        The largest difference of a score.

    Raises:
        GateError: an instance differs.
    """
    spec = decoder.spec
    geometry = fixed_geometry(contract.height, contract.width, contract.height, contract.width)
    pairs = ((raw, run(raw)) for raw in _made_up(spec, geometry))
    return max(_difference(raw, outputs, geometry, spec, decoder.decode, stage) for raw, outputs in pairs)


def judge_decoding(
    run: Callable[[NDArray[Any]], tuple[RawOutputs, DecodedOutputs]],
    batches: Iterable[NDArray[Any]],
    decoder: GraphDecoder,
    contract: InputContract,
    stage: str,
) -> float:
    """Compare what a graph decodes with what the host decodes from the raw outputs inside that graph.

    Args:
        run: one batch through the whole graph.
        batches: inputs as the contract takes them.
        decoder: what the end of the graph should compute.
        contract: the graph's input.
        stage: what was just done, for the message.

    Returns:
        The largest difference of a score.

    Raises:
        GateError: an instance differs.
    """
    geometry = fixed_geometry(contract.height, contract.width, contract.height, contract.width)
    pairs = (run(batch) for batch in batches)
    return max(_difference(*pair, geometry, decoder.spec, decoder.decode, stage) for pair in pairs)


def _difference(
    raw: RawOutputs, outputs: DecodedOutputs, geometry: Geometry, spec: ModelSpec, baked: GraphDecode, stage: str
) -> float:
    options = baked_options(baked)
    ours = decoded_instances(outputs, geometry, spec, options)
    said = ""
    for likewise in _within_rounding(raw):
        expected = host_instances(likewise, geometry, spec, baked)
        findings = {finding.quantity: finding for finding in decode_findings("", expected, ours, options)}
        if all(finding.passed for finding in findings.values()):
            return findings["score"].value
        said = said or f"{len(ours)} instances for {len(expected)}, " + ", ".join(
            f"{name} {finding.value:.3g}" for name, finding in findings.items()
        )
    raise GateError(
        f"the graph's decoding differs from the host's after {stage}: {said}; nothing was written, convert with "
        "--decode host instead"
    )


def _within_rounding(raw: RawOutputs) -> Iterator[RawOutputs]:
    """Yield raw outputs as they are, then with every kernel's numbers moved by one rounding, a few times over.

    Two engines add the products of a mask's logit in different orders. A pixel whose logit is 0 up to rounding then
    falls on either side, and the mask's overlap with others moves by that pixel.
    """
    yield raw
    rng = np.random.default_rng(0)
    for _ in range(ROUNDINGS):
        signs = rng.choice(np.array([-1, 1], np.float32), raw.kernels.shape)
        yield replace(raw, kernels=raw.kernels * (1 + signs * np.finfo(np.float32).eps))


def _made_up(spec: ModelSpec, geometry: Geometry) -> Iterator[RawOutputs]:
    rng = np.random.default_rng(0)
    if spec.mask_channels >= DISC_CHANNELS:
        for count in PLANTED:
            yield planted_outputs(spec, geometry, min(count, spec.num_cells // 8))
    shape = (spec.feature_channels, geometry.input_height // 4, geometry.input_width // 4)
    few = rng.standard_normal((3, spec.kernel_length), np.float32)  # masks, so that most are exact duplicates
    for share in (0.02, 1.0):
        tied = rng.choice(np.array(TIED_SCORES, np.float32), (spec.num_cells, spec.num_classes))
        tied *= rng.random(tied.shape) < share
        features = np.repeat(
            np.repeat(rng.standard_normal((shape[0], shape[1] // 8, shape[2] // 8), np.float32), 8, 1), 8, 2
        )
        yield RawOutputs(tied, few[rng.integers(0, 3, spec.num_cells)], features)
