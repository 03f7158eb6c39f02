"""An ncnn artefact's two networks in ncnn: the trunk, once a picture, and the head, once a level."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError, require
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.native_stderr import captured_stderr
from solov2_edge.runtime.ncnn_settings import NcnnRequest, settings_of
from solov2_edge.runtime.openmp import short_waits

__all__ = ["HEAD", "LEVEL", "TRUNK", "NcnnNetwork", "find_ncnn"]

CHATTER = re.compile("")  # ncnn says anything, in no form of its own
TRUNK, HEAD = "trunk", "head"
LEVEL = "level"  # name of the head's input, and with a number that of an output of the trunk


def find_ncnn() -> Any:
    """Return the module ncnn, loaded so that its threads do not spin for long; see :mod:`.openmp`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with short_waits():
            return importlib.import_module("ncnn")
    except ImportError as error:
        raise MissingDependencyError("ncnn", "ncnn", "running .ncnn artefacts") from error


class NcnnNetwork:
    """Two networks, loaded.

    Args:
        ncnn: the module.
        folder: the artefact.
        request: the way to run.
        threads: threads inside one layer; None takes one per physical core that this process may use.
        manifest: what the artefact promises.

    Raises:
        InputError: a file is missing or damaged, there is no GPU where one is asked for, or an unknown option.
    """

    def __init__(self, ncnn: Any, folder: Path, request: NcnnRequest, threads: int | None, manifest: Manifest) -> None:
        self._ncnn, self._manifest = ncnn, manifest
        with captured_stderr(CHATTER):
            gpus = ncnn.get_gpu_count() if request.on_gpu else 0
        if request.on_gpu and not gpus:
            raise InputError(
                "ncnn finds no GPU with Vulkan here; install the GPU's Vulkan driver, or leave the provider out to run "
                "on the CPU"
            )
        self._trunk, self._head = (self._open(folder, name, request, threads) for name in (TRUNK, HEAD))
        *raw, features = manifest.outputs
        levels = [f"{LEVEL}{number}" for number in range(len(manifest.spec.grids))]
        for name, net, given, made in (
            (TRUNK, self._trunk, [manifest.input.name], [*levels, features]),
            (HEAD, self._head, [LEVEL], raw),
        ):
            takes, gives = list(net.input_names()), list(net.output_names())
            require(
                takes == given and sorted(gives) == sorted(made),
                f"{folder / name}.param takes {', '.join(takes)} and gives {', '.join(gives)}, its manifest says "
                f"{', '.join(given)} and {', '.join(made)}; copy the whole folder again, or convert again",
            )

    def _open(self, folder: Path, name: str, request: NcnnRequest, threads: int | None) -> Any:
        net = self._ncnn.Net()
        fields = {field: getattr(net.opt, field) for field in dir(net.opt) if not field.startswith("_")}
        for field, value in settings_of(request, threads, fields).items():
            setattr(net.opt, field, value)
        for file, load in ((f"{name}.param", net.load_param), (f"{name}.bin", net.load_model)):
            path = folder / file
            if not path.is_file():
                raise InputError(f"{folder} holds no {file}; copy the whole folder again")
            with captured_stderr(CHATTER) as said:
                failed = load(str(path))
            if failed:
                raise InputError(
                    f"{path} cannot be read by ncnn ({' '.join(said().split()) or 'no reason given'}); copy the whole "
                    "folder again, or convert the checkpoint again"
                )
        return net

    def run(self, batch: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run both networks.

        Args:
            batch: as the manifest's input contract says.

        Returns:
            class scores, kernels and mask features, which are the caller's own.

        Raises:
            SolovEdgeError: ncnn failed.
        """
        picture = self._picture(batch)  # ncnn reads it until the last output is out
        trunk = self._trunk.create_extractor()
        self._check(trunk.input(self._manifest.input.name, picture), "reading the picture")
        scores: list[NDArray[np.float32]] = []
        kernels: list[NDArray[np.float32]] = []
        for number in range(len(self._manifest.spec.grids)):
            level = self._extract(trunk, f"{LEVEL}{number}")
            head = self._head.create_extractor()
            self._check(head.input(LEVEL, level), f"reading level {number}")
            for rows, name in ((scores, self._manifest.outputs[0]), (kernels, self._manifest.outputs[1])):
                planes = np.array(self._extract(head, name))
                rows.append(planes.reshape(len(planes), -1).T)
        features = np.array(self._extract(trunk, self._manifest.outputs[2]))
        return [np.concatenate(scores), np.concatenate(kernels), features]

    def _picture(self, batch: NDArray[Any]) -> Any:
        """Return the picture in memory of ncnn's own: it does not hold on to numpy's, which may be freed meanwhile."""
        pixels = np.ascontiguousarray(batch[0])
        if self._manifest.input.kind == "tensor":
            return self._ncnn.Mat(pixels).clone()  # pixels must have a name here: they live until they are copied
        height, width = pixels.shape[:2]
        return self._ncnn.Mat.from_pixels(pixels, self._ncnn.Mat.PixelType.PIXEL_RGB, width, height)

    def _extract(self, extractor: Any, name: str) -> Any:
        failed, blob = extractor.extract(name)
        self._check(failed, f"computing {name}")
        return blob

    def _check(self, failed: int, what: str) -> None:
        if failed:
            raise SolovEdgeError(
                f"ncnn failed while {what} (code {failed}); free some memory, or convert the checkpoint again"
            )
