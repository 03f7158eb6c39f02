"""One door for everything that segments: a checkpoint opens as the PyTorch reference, an artefact in its engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from solov2_edge.errors import InputError, require
from solov2_edge.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from solov2_edge.runtime import Segmenter
    from solov2_edge.runtime.instances import Instances
    from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions
    from solov2_edge.runtime.session import RawOutputs

__all__ = ["CHECKPOINT_SUFFIXES", "INTERPRETED", "AnySegmenter", "is_checkpoint", "open_artefact", "open_segmenter"]

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pkl", ".ckpt", ".safetensors")


CORE_ML_SUFFIX = ".mlpackage"
INTERPRETED = "program interpreter"  # how the engine's name begins where a Core ML program is interpreted


class AnySegmenter(Protocol):
    """What a PyTorch reference and a runtime segmenter have in common.

    Attributes:
        spec: the network.
        timings: milliseconds of the last frame: ``preprocess``, ``network``, ``decode``.
    """

    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102 - said above

    @property
    def timings(self) -> dict[str, float]: ...  # noqa: D102 - said above

    def __call__(self, frame: NDArray[np.uint8]) -> Instances:
        """Segment a BGR uint8 (H, W, 3) frame."""
        ...

    def raw(self, frame: NDArray[np.uint8]) -> RawOutputs:
        """Return the network's outputs for a frame, undecoded."""
        ...

    def panoptic(self, frame: NDArray[np.uint8], options: PanopticOptions | None = None) -> Panoptic:
        """Segment a BGR uint8 (H, W, 3) frame into things and stuff."""
        ...


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Tell from its suffix whether ``path`` is a checkpoint, as opposed to a converted artefact."""
    return Path(path).suffix.lower() in CHECKPOINT_SUFFIXES


def open_artefact(path: str | os.PathLike[str], **options: Any) -> Segmenter:
    """Open an artefact in its engine; off a Mac, a Core ML package in the program interpreter.

    The runtime cannot do this itself: the interpreter computes with PyTorch, which the runtime never imports.

    Args:
        path: an ``.onnx``, ``.tflite``, ``.mlpackage`` or ``.ncnn``.
        options: as for :func:`solov2_edge.runtime.load`.

    Raises:
        InputError: as :func:`solov2_edge.runtime.load`.
        MissingDependencyError: the engine is not installed.
    """
    if Path(path).suffix.lower() == CORE_ML_SUFFIX and sys.platform != "darwin":
        from solov2_edge.converters import mil_interpreter

        return mil_interpreter.load(path, **options)
    from solov2_edge.runtime import load

    return load(path, **options)


def open_segmenter(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    providers: str | Sequence[str] | None = None,
    engine: str | None = None,
    input_size: tuple[int, int] | None = None,
    **decode_options: Any,
) -> AnySegmenter:
    """Open a checkpoint or an artefact for segmentation.

    Args:
        path: a checkpoint (``.pth .pt .pkl .ckpt .safetensors``) or an artefact (``.onnx .tflite .mlpackage .ncnn``).
        threads: threads of the network; default: the engine's choice.
        providers: what the engine runs on, as for :func:`solov2_edge.runtime.load`; artefacts only.
        engine: what runs an artefact, as for :func:`solov2_edge.runtime.load`; artefacts only.
        input_size: (H, W) a checkpoint runs at, as an artefact of that size would; checkpoints only. Default: the
            reference's own geometry.
        decode_options: fields of :class:`solov2_edge.runtime.decode.DecodeOptions`.

    Raises:
        InputError: no such file, not a usable one, or an option that does not apply to it.
        MissingDependencyError: the engine is not installed.
    """
    require(Path(path).exists(), f"{os.fspath(path)}: no such file")
    if not is_checkpoint(path):
        require(input_size is None, f"an input size is for checkpoints; {os.fspath(path)} has its own")
        if engine is not None:
            decode_options["engine"] = engine
        return cast(AnySegmenter, open_artefact(path, threads=threads, providers=providers, **decode_options))
    if providers is not None:
        raise InputError(
            f"execution providers are for artefacts; {os.fspath(path)} is a checkpoint and runs in PyTorch"
        )
    require(engine is None, f"an engine is for artefacts; {os.fspath(path)} is a checkpoint and runs in PyTorch")
    import torch

    from solov2_edge.reference import load_reference
    from solov2_edge.runtime.contract import check_threads

    check_threads(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    return cast(AnySegmenter, load_reference(path, input_size=input_size, **decode_options))
