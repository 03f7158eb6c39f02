"""Reading an .onnx artefact into OpenVINO, and checking its graph against the manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.contract import input_layout, output_is_whole, output_shapes
from solov2_edge.runtime.vino_operators import extensions

__all__ = ["VINO_ERRORS", "cause", "read_model"]

# What OpenVINO raises, for all that it cannot do; it has no exceptions of its own.
VINO_ERRORS = (RuntimeError, TypeError, ValueError)
# Lines that say where in OpenVINO's source something was noticed, not what.
PLACES = re.compile(r"Exception from |Check '|While validating |FrontEnd API failed|Summary|At:|/|$")
UNREAD = re.compile(r"-- (?:No conversion rule found for operations|Conversion is failed for): (.+)")


def read_model(core: Any, file: Path, manifest: Manifest) -> Any:
    """Return an artefact as an :class:`openvino.Model` whose input has the manifest's fixed size.

    Raises:
        InputError: OpenVINO cannot read the file, or its input or outputs are not those of the manifest.
    """
    for extension in extensions():
        core.add_extension(extension)
    try:
        model = core.read_model(file)
    except VINO_ERRORS as error:
        raise InputError(
            f"{file} cannot be read by OpenVINO: {cause(error)}; run it in ONNX Runtime (leave the engine out), or "
            "convert the checkpoint again"
        ) from error
    _check_input(file, model, manifest)
    _check_outputs(file, model, manifest)
    return model


def cause(error: Exception) -> str:
    """Return what went wrong, in one line, out of the many that OpenVINO writes."""
    lines = [line.strip() for line in str(error).splitlines()]
    unread = sorted({name for line in lines for found in UNREAD.findall(line) for name in found.split(", ")})
    if unread:
        return f"it does not know the operators {', '.join(unread)} as they stand there"
    return next((line for line in lines if not PLACES.match(line)), lines[0] if lines else type(error).__name__)


def _check_input(file: Path, model: Any, manifest: Manifest) -> None:
    """Refuse another input than the manifest's; a symbolic size becomes the manifest's."""
    contract = manifest.input
    ports = {port.get_any_name(): port for port in model.inputs}
    require(
        list(ports) == [contract.name],
        f"{file} takes inputs {sorted(ports)}, its manifest says {contract.name!r}; convert the checkpoint again",
    )
    shape, dtype = input_layout(contract)
    got = ports[contract.name]
    good = got.get_element_type().to_dtype() == dtype and _may_be(got, shape)
    require(
        good,
        f"{file} takes {_described(got)}, its manifest says {dtype} {list(shape)}; convert the checkpoint again",
    )
    if got.get_partial_shape().is_dynamic:
        model.reshape({contract.name: list(shape)})


def _check_outputs(file: Path, model: Any, manifest: Manifest) -> None:
    ports = {name: port for port in model.outputs for name in port.get_names()}
    for name, expected, whole in zip(manifest.outputs, output_shapes(manifest), output_is_whole(manifest), strict=True):
        require(
            name in ports,
            f"{file} gives outputs {sorted(ports)}, its manifest says {name!r}; convert the checkpoint again",
        )
        got = ports[name]
        fits = got.get_element_type().to_dtype() in (("int32",) if whole else ("float32", "float16"))
        require(
            fits and (_may_be(got, expected) or _may_be(got, (1, *expected))),
            f"{file} gives {name} as {_described(got)}, its manifest says {'int32' if whole else 'float'} "
            f"{list(expected)}; convert the checkpoint again",
        )


def _may_be(port: Any, shape: tuple[int, ...]) -> bool:
    return bool(port.get_partial_shape().compatible(_partial(port, shape)))


def _partial(port: Any, shape: tuple[int, ...]) -> Any:
    return type(port.get_partial_shape())(list(shape))


def _described(port: Any) -> str:
    return f"{port.get_element_type().get_type_name()} {port.get_partial_shape()}"
