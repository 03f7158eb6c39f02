"""Decoding appended to a finished Core ML package: what was proven of the network stays as it is, in any precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.converters.coreml_package import OWNER, Model, rewrite_manifest, write_package
from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet
from solov2_edge.converters.decode_gate import judge_decoding
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.mil_session import MilSession
from solov2_edge.errors import GateError
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, Manifest
from solov2_edge.runtime.contract import output_shapes, undecoded
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs

__all__ = ["append_decoder"]

PREFIX = "decode_"
TEXTS = (
    "scores of the instances, falling; 0 marks an unused row",
    "class channel of each instance",
    "mask logits at a quarter of the input's size; a pixel belongs to the mask where they are above 0",
)


def append_decoder(
    package: Path,
    target: Path,
    decoder: GraphDecoder,
    network: Manifest,
    whole: Manifest,
    system: str,
    batches: Iterable[NDArray[Any]],
) -> float:
    """Write a package whose outputs are the decoder's, of a package whose outputs are the raw ones.

    The decoder's values get names that begin with :data:`PREFIX`; weights are shared by copying their file.

    Args:
        package: the finished package of the network.
        target: the folder to write, which must not exist.
        decoder: what to append.
        network: the manifest inside ``package``.
        whole: the manifest of what is written.
        system: its deployment target, ``"iOS16"`` or later.
        batches: inputs on which the saved package's instances are compared with the host's.

    Returns:
        The largest difference of a score from the host's decoding of what ``package`` gives.

    Raises:
        GateError: an instance differs.
    """
    spec = Model.FromString((package / "Data" / OWNER / "model.mlmodel").read_bytes())
    shapes = dict(zip(OUTPUT_NAMES, output_shapes(network), strict=True))
    _splice(spec, _program(decoder, shapes, system))
    write_package(target, spec, package / "Data" / OWNER / "weights" / "weight.bin")
    rewrite_manifest(target, whole)
    with MilSession(package) as alone, MilSession(target) as appended:

        def outputs(batch: NDArray[Any]) -> tuple[RawOutputs, DecodedOutputs]:
            decoded = appended.run(batch)
            assert isinstance(decoded, DecodedOutputs)  # as its manifest says
            return undecoded(alone.run(batch)), decoded

        return judge_decoding(outputs, batches, decoder, network.input, "appending the decoding")


def _program(decoder: GraphDecoder, shapes: Mapping[str, tuple[int, ...]], system: str) -> Any:
    """Return the specification of the decoder alone, in float32."""
    coremltools = load_coremltools()
    examples = tuple(torch.zeros(shape) for shape in shapes.values())
    with quiet(), torch.inference_mode():
        exported = torch.export.export(decoder, examples).run_decompositions({})
        return coremltools.convert(
            exported,
            convert_to="mlprogram",
            inputs=[coremltools.TensorType(name=name, shape=shape, dtype=np.float32) for name, shape in shapes.items()],
            outputs=[coremltools.TensorType(name=name) for name in DECODED_NAMES],
            minimum_deployment_target=getattr(coremltools.target, system),
            compute_precision=coremltools.precision.FLOAT32,
            skip_model_load=True,
        ).get_spec()


def _splice(spec: Any, decoder: Any) -> None:
    """Put the decoder's operations behind the network's, and its outputs in place of the raw ones."""
    block, part = _block(spec), _block(decoder)
    kept = {*OUTPUT_NAMES, *DECODED_NAMES}

    def renamed(name: str) -> str:
        return name if name in kept else PREFIX + name

    for operation in part.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "name":
                    binding.name = renamed(binding.name)
        for output in operation.outputs:
            output.name = renamed(output.name)
        for value in operation.attributes.values():
            if value.WhichOneof("value") == "blobFileValue":
                raise GateError("the decoding holds a large constant, which has no place; nothing was written")
        name = operation.attributes["name"].immediateValue.tensor.strings
        name.values[:] = [renamed(text) for text in name.values]
    block.operations.extend(part.operations)
    del block.outputs[:], spec.description.output[:]
    block.outputs.extend(DECODED_NAMES)
    described = {output.name: output for output in decoder.description.output}
    for name, text in zip(DECODED_NAMES, TEXTS, strict=True):
        described[name].shortDescription = text
        spec.description.output.append(described[name])
    texts = spec.description.metadata
    texts.shortDescription = texts.shortDescription.partition(" Outputs are raw")[0] + (
        " Outputs are instances; docs/graph-decode.md tells how to use them."
    )


def _block(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]
