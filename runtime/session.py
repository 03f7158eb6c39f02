"""The protocol every engine implements, and all it ever returns: raw outputs, or instances where the graph decodes."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.manifest import Manifest

__all__ = ["DecodedOutputs", "Outputs", "RawOutputs", "Session"]

_LEVELS = 5  # of every network's head


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """What the network says about one frame, before any decoding.

    Attributes:
        class_scores: (cells, classes) float32 in [0, 1], after the sigmoid and **before** points NMS; levels in
            order (finest first), cells row-major inside a level.
        kernels: (cells, E) float32, the dynamic 1x1 kernels, rows as in ``class_scores``; (cells, 9 E) if they are 3x3.
        mask_features: (E, H/4, W/4) float32 for an input of H x W; (5 E, H/4, W/4) if each level has its own.
        semantic_logits: (stuff + 1, H/4, W/4) float32, before the softmax: the spec's stuff, then "other"; None where
            the spec has no stuff.
    """

    class_scores: NDArray[np.float32]
    kernels: NDArray[np.float32]
    mask_features: NDArray[np.float32]
    semantic_logits: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        arrays = (self.class_scores, self.kernels, self.mask_features)
        require(
            all(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in arrays),
            f"raw outputs must be float32 arrays, got {[getattr(a, 'dtype', type(a).__name__) for a in arrays]}",
        )
        shapes = [a.shape for a in arrays]
        good = [len(s) for s in shapes] == [2, 2, 3] and shapes[0][0] == shapes[1][0]
        # 1x1 or 3x3 kernels on the features of all levels or on those of one in five.
        good = good and any(shapes[1][1] * share == shapes[2][0] * taps for share in (1, _LEVELS) for taps in (1, 9))
        require(
            good,
            "raw outputs must be class scores (cells, classes), kernels (cells, E) and mask features (E, h, w), "
            f"got shapes {shapes}",
        )
        stuff = self.semantic_logits
        require(
            stuff is None
            or (isinstance(stuff, np.ndarray) and stuff.dtype == np.float32 and stuff.shape[1:] == shapes[2][1:]),
            "semantic logits must be float32 (stuff + 1, h, w) of the mask features' size "
            f"{shapes[2][1:]}, got {getattr(stuff, 'dtype', type(stuff).__name__)} {getattr(stuff, 'shape', '')}",
        )


@dataclass(frozen=True, slots=True)
class DecodedOutputs:
    """What a graph that decodes says about one frame; see ``Manifest.decode``.

    Attributes:
        scores: (n,) float32 in [0, 1], never rising; 0 marks an unused row, which only the last rows are.
        labels: (n,) int32, class channel; 0 in unused rows.
        masks: (n, H/4, W/4) float32 for an input of H x W: logits, before the sigmoid.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    masks: NDArray[np.float32]

    def __post_init__(self) -> None:
        arrays = (self.scores, self.labels, self.masks)
        got = [(getattr(a, "shape", None), str(getattr(a, "dtype", type(a).__name__))) for a in arrays]
        require(
            all(isinstance(a, np.ndarray) for a in arrays)
            and [a.dtype for a in arrays] == [np.float32, np.int32, np.float32]
            and [a.ndim for a in arrays] == [1, 1, 3]
            and len(self.scores) == len(self.labels) == len(self.masks),
            f"decoded outputs must be scores (n,) float32, labels (n,) int32 and masks (n, h, w) float32, got {got}",
        )
        # Of a sound graph this always holds; an engine that computes it wrongly is told here, NaN included.
        if not bool((self.scores >= 0).all() and (self.scores[1:] <= self.scores[:-1]).all()):
            raise SolovEdgeError(
                "the artefact's scores are negative, not finite or not falling: its engine computes the decoding "
                "wrongly; run it on the CPU, or convert with --decode host"
            )

    def __len__(self) -> int:
        """Return the number of instances: rows whose score is above 0."""
        return int(np.count_nonzero(self.scores))


Outputs = RawOutputs | DecodedOutputs


class Session(Protocol):
    """One open artefact in one engine; a context manager.

    Attributes:
        manifest: what the artefact takes and gives.
        engine: name of the engine with its version, for example ``"onnxruntime 1.32.0"``.
        providers: what really runs the graph, first choice first, for example ``("CPUExecutionProvider",)``.
    """

    manifest: Manifest
    engine: str
    providers: tuple[str, ...]

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run the network once; DecodedOutputs where the manifest says that the graph decodes.

        Args:
            batch: what the manifest's input contract asks: (1, H, W, 3) uint8 RGB or (1, 3, H, W) float32.

        Returns:
            Arrays that no later run changes: one frame is decoded while the next one runs.

        Raises:
            InputError: shape or dtype differ from the contract.
        """
        ...

    def close(self) -> None:
        """Release the engine's memory; running afterwards is an error."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
