"""The gate of files with integer activations: how much noise rounding adds on pictures of the kind they are made for.

The probes that float files are judged on are noise and drawings, which no calibration covers: a sound file clips there,
and by how much says nothing of its accuracy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.parity import differences, noise
from solov2_edge.converters.tolerances import tolerance_of
from solov2_edge.errors import GateError
from solov2_edge.runtime.session import RawOutputs

__all__ = ["JUDGED", "judge_noise"]

JUDGED = 8  # calibration pictures that the finished file is compared with the float one on
TINY = 1e-30  # signal of an output that is constant

Run = Callable[[NDArray[Any]], RawOutputs]


def judge_noise(
    exact: Run, rounded: Run, batches: Iterable[NDArray[Any]], stage: str, precision: str
) -> dict[str, float]:
    """Compare a quantised network with its float original on the first calibration pictures.

    Args:
        exact: runs the float32 original, itself judged against PyTorch.
        rounded: runs the quantised form.
        batches: calibration inputs, of which the first :data:`JUDGED` are taken.
        stage: what was just done, for the message.
        precision: of the quantised form, whose bound on noise holds.

    Returns:
        The largest difference per output, as a part of the range.

    Raises:
        GateError: the noise of an output, the root mean square of its error over its standard deviation, is above
            the bound, which no sound choice of ranges reaches.
    """
    sums: dict[str, list[tuple[float, float]]] = defaultdict(list)
    worst: dict[str, float] = defaultdict(float)
    for batch in islice(batches, JUDGED):
        expected, got = exact(batch), rounded(batch)
        for name, difference in differences(got, expected).items():
            worst[name] = max(worst[name], difference)
        for name, pair in noise(got, expected).items():
            sums[name].append(pair)
    bound = tolerance_of(precision).overall.noise
    assert bound is not None  # the table has one for every integer precision
    for name, pairs in sums.items():
        error, signal = np.sum(pairs, axis=0)
        relative = float(np.sqrt(error / max(signal, TINY)))
        if not relative <= bound:
            raise GateError(
                f"the noise of {name} is {relative:.2g} of its standard deviation after {stage}, where {bound:g} is "
                "allowed; keep layers float, or calibrate with pictures of the kind the network will see; nothing was "
                "written"
            )
    return dict(worst)
