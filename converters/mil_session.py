"""Core ML artefacts as a Session, wherever PyTorch runs: the program is interpreted, without Apple's runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solov2_edge.converters.mil_execute import Observer, execute
from solov2_edge.converters.mil_package import Package, coremltools_version, read_package
from solov2_edge.converters.mil_program import Program, read_program
from solov2_edge.converters.mil_types import TensorType
from solov2_edge.errors import InputError, require
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar
from solov2_edge.runtime.contract import check_batch, engine_outputs, output_is_whole, output_shapes
from solov2_edge.runtime.session import Outputs

__all__ = ["ENGINE", "PROVIDER", "MilSession", "feeds_of"]

ENGINE = "program interpreter, not Apple's runtime"
PROVIDER = "interpreter"
MAX_THREADS = 1024
COLOUR_SPACES = {20: "rgb", 30: "bgr"}  # FeatureTypes.proto, ImageFeatureType.ColorSpace
FLOATS = ("fp16", "fp32")


class MilSession:
    """One .mlpackage, open in the interpreter; see :class:`~solov2_edge.runtime.session.Session`.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: :data:`ENGINE` and the version of coremltools whose definitions the file was read with.
        providers: ``("interpreter",)``.
        program: what is run.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: str | Sequence[str] | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Open an artefact and check it against its manifest.

        Args:
            path: the .mlpackage folder.
            threads: PyTorch's threads while it runs, 1..1024; None leaves them as they are.
            providers: None or ``"interpreter"``.
            provider_options: must be empty.

        Raises:
            InputError: the package is missing, damaged, uses what the interpreter does not know, or is not what its
                manifest says, or an argument is out of range.
            MissingDependencyError: coremltools is not installed.
        """
        good = isinstance(threads, int) and not isinstance(threads, bool) and 1 <= threads <= MAX_THREADS
        require(threads is None or good, f"threads must be an integer from 1 to {MAX_THREADS}, got {threads!r}")
        require(
            providers in (None, PROVIDER, [PROVIDER], (PROVIDER,)),
            f"the program interpreter has one provider, {PROVIDER!r}, got {providers!r}; compute units need a Mac",
        )
        require(not provider_options, f"the program interpreter takes no provider options, got {provider_options!r}")
        package = read_package(path)
        self.manifest: Manifest = agreed_manifest(path, read_sidecar(path), package.manifest_text)
        self.program: Program = read_program(package.model, package.folder)
        self._colours = _check_interface(package, self.program, self.manifest)
        self._threads = threads
        self._closed = False
        self.engine: str = f"{ENGINE} (coremltools {coremltools_version()})"
        self.providers: tuple[str, ...] = (PROVIDER,)

    def run(self, batch: NDArray[Any], observe: Observer | None = None) -> Outputs:
        """Run the network once.

        Args:
            batch: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32, as the manifest's input contract says.
            observe: see :func:`~solov2_edge.converters.mil_execute.execute`.

        Raises:
            InputError: shape or dtype differ from the contract, the session is closed, or the program cannot be run
                as it declares itself.
        """
        require(not self._closed, "this session is closed; load the artefact again")
        check_batch(batch, self.manifest.input)
        feeds = feeds_of(batch, self.manifest.input, self._colours)
        with _threads(self._threads):
            outputs = execute(self.program, feeds, observe)
        return engine_outputs([outputs[name].numpy() for name in self.manifest.outputs], self.manifest)

    def close(self) -> None:
        """Release the weights; running afterwards is an error."""
        self._closed = True
        self.program = Program({}, {}, (), (), ())

    def __enter__(self) -> MilSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def feeds_of(batch: NDArray[Any], contract: InputContract, colours: str = "rgb") -> dict[str, torch.Tensor]:
    """Return the program's input as Core ML would make it of a batch.

    Args:
        batch: what the contract takes.
        contract: the input contract.
        colours: order of the channels that the program's image input has, ``"rgb"`` or ``"bgr"``.

    Returns:
        Input name -> (1, 3, H, W) float32: pixel values 0..255 for images, the numbers themselves for tensors.
    """
    if contract.kind == "tensor":
        return {contract.name: torch.from_numpy(np.ascontiguousarray(batch))}
    planes = batch.transpose(0, 3, 1, 2)
    planes = planes[:, ::-1] if colours == "bgr" else planes
    return {contract.name: torch.from_numpy(planes.astype(np.float32))}


def _check_interface(package: Package, program: Program, manifest: Manifest) -> str:
    """Refuse a package whose inputs and outputs are not those of its manifest; return the image's colour order."""
    contract, path, again = manifest.input, package.path, "convert the checkpoint again"
    description = package.model.description
    names = [entry.name for entry in description.input]
    require(
        names == [contract.name] and list(program.inputs) == names,
        f"{path} takes {names}, its program {list(program.inputs)}, its manifest says {contract.name!r}; {again}",
    )
    shape = (1, 3, contract.height, contract.width)
    declared = program.inputs[contract.name]
    require(
        declared.shape == shape and declared.kind in FLOATS,
        f"{path} computes with an input {declared}, its manifest says float {list(shape)}; {again}",
    )
    declared_names = [entry.name for entry in description.output]
    require(
        set(manifest.outputs) == set(program.outputs) == set(declared_names),
        f"{path} gives outputs {sorted(declared_names)}, its program {sorted(program.outputs)}, its manifest says "
        f"{list(manifest.outputs)}; {again}",
    )
    types = dict(output for operation in program.operations for output in operation.outputs)
    for name, expected, whole in zip(manifest.outputs, output_shapes(manifest), output_is_whole(manifest), strict=True):
        got: TensorType | None = types.get(name)
        require(
            got is not None
            and (got.kind == "int32" if whole else got.kind in FLOATS)
            and got.shape in (expected, (1, *expected)),
            f"{path} gives {name} as {got}, its manifest says {'int32' if whole else 'float'} {list(expected)}; "
            f"{again}",
        )
    feature = description.input[0].type
    kind = feature.WhichOneof("Type")
    if contract.kind == "tensor":
        require(kind == "multiArrayType", f"{path} takes input of type {kind}, its manifest says a tensor; {again}")
        return "rgb"
    require(kind == "imageType", f"{path} takes input of type {kind}, its manifest says an image; {again}")
    image = feature.imageType
    colours = COLOUR_SPACES.get(image.colorSpace)
    if colours is None or (image.height, image.width) != (contract.height, contract.width):
        raise InputError(
            f"{path} takes an image of {image.height} x {image.width} in colour space {image.colorSpace}, its manifest "
            f"says {contract.height} x {contract.width} in colour; {again}"
        )
    return colours


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Give PyTorch ``count`` threads for a while."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
