"""Finding the manifest's input and outputs in a .tflite graph, and checking that they are what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.contract import input_layout, output_is_whole, output_shapes
from solov2_edge.runtime.litert_package import ENGINE_ERRORS, LitertPackage, one_line
from solov2_edge.runtime.litert_tensors import Tensor, read_tensor
from solov2_edge.runtime.native_stderr import captured_stderr

__all__ = ["Graph", "read_graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """Where an artefact's input and outputs are.

    Attributes:
        signature: the one that names them; None where the file has none and tensors are named themselves.
        source: the input.
        outputs: in the manifest's order.
    """

    signature: str | None
    source: Tensor
    outputs: tuple[Tensor, ...]


def read_graph(package: LitertPackage, path: str, manifest: Manifest) -> Graph:
    """Read a graph's borders without allocating its tensors.

    Raises:
        InputError: the file cannot be opened, or its input or outputs are not those of its manifest.
    """
    try:
        with captured_stderr():
            interpreter = package.interpreter(path, experimental_op_resolver_type=package.resolver("BUILTIN_REF"))
        signature, inputs, outputs = _borders(interpreter, manifest)
    except InputError:
        raise
    except ENGINE_ERRORS as error:
        raise InputError(
            f"{path} cannot be opened by {package.engine}: {one_line(error)}; copy it again or convert the "
            "checkpoint again"
        ) from error
    contract = manifest.input
    require(
        list(inputs) == [contract.name],
        f"{path} takes inputs {sorted(inputs)}, its manifest says {contract.name!r}; convert the checkpoint again",
    )
    shape, dtype = input_layout(contract)
    source = read_tensor(contract.name, inputs[contract.name])
    fits = source.takes_pixels if dtype == "uint8" else source.holds_reals
    require(
        fits and source.shape == shape,
        f"{path} takes {source.dtype} {list(source.shape)}, its manifest says {dtype} {list(shape)}; convert the "
        "checkpoint again",
    )
    found = []
    for name, expected, whole in zip(manifest.outputs, output_shapes(manifest), output_is_whole(manifest), strict=True):
        require(
            name in outputs,
            f"{path} gives outputs {sorted(outputs)}, its manifest says {name!r}; convert the checkpoint again",
        )
        tensor = read_tensor(name, outputs[name])
        require(
            (tensor.is_whole if whole else tensor.holds_reals) and tensor.shape in (expected, (1, *expected)),
            f"{path} gives {name} as {tensor.dtype} {list(tensor.shape)}, its manifest says "
            f"{'int32' if whole else 'real'} numbers {list(expected)}; convert the checkpoint again",
        )
        found.append(tensor)
    return Graph(signature, source, tuple(found))


def _borders(interpreter: Any, manifest: Manifest) -> tuple[str | None, Mapping[str, Any], Mapping[str, Any]]:
    """Return the signature and name -> details of the inputs and outputs it names, or of the tensors by their names."""
    own = interpreter.get_input_details(), interpreter.get_output_details()
    reachable = [{int(details["index"]) for details in side} for side in own]
    signatures = interpreter.get_signature_list()
    for key in sorted(signatures, key=lambda key: not set(manifest.outputs) <= set(signatures[key]["outputs"])):
        runner = interpreter.get_signature_runner(key)
        sides = runner.get_input_details(), runner.get_output_details()
        # One of another subgraph has indices of its own, which the interpreter's plain calls do not reach.
        if all(
            {int(details["index"]) for details in side.values()} <= within
            for side, within in zip(sides, reachable, strict=True)
        ):
            return key, *sides
    return None, _by_name(own[0]), _by_name(own[1])


def _by_name(tensors: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(details["name"]): details for details in tensors}
