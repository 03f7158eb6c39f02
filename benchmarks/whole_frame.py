"""A whole frame (1080p in, 20 instances out) over the bare network: Light-448-R18 int8 in ONNX Runtime, 2 threads.

``python benchmarks/whole_frame.py`` builds the artefact once (random weights take the time of trained ones; kept in
.cache/) and measures in turns: the segmenter on a 1080p frame, whose network runs for real and whose outputs are then
replaced by some that decode to exactly 20 instances, and the network alone on the same input. The ratio is taken
round by round and held against the design's bound; the instances are counted after timing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from kept import kept_folder
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.errors import InputError
from solov2_edge.runtime import Segmenter
from solov2_edge.runtime.artefact import read_sidecar
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.bench_frames import read_frames, resized
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import RawOutputs

FULL_HD = (1080, 1920)  # H x W of the frame
INPUT = (448, 768)  # the paper's box
NAME = "light-448-r18"
INSTANCES = 20
BOUND = 1.15  # whole frame over bare network


class Planted:
    """A session that runs its network and gives other outputs; see :class:`~solov2_edge.runtime.session.Session`."""

    def __init__(self, session: OrtSession, raw: RawOutputs) -> None:
        self.manifest, self.engine, self.providers = session.manifest, session.engine, session.providers
        self._session, self._raw = session, raw

    def run(self, batch: NDArray[Any]) -> RawOutputs:
        """Run the network for its time."""
        self._session.run(batch)
        return self._raw

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def __enter__(self) -> Planted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def artefact(folder: Path) -> Path:
    """Return the int8 file, building it if the folder has none that this version runs."""
    path = folder / f"{NAME}-random.int8.onnx"
    try:
        if path.exists() and read_sidecar(path) is not None:
            return path
    except InputError as error:
        print(f"built anew: {error}")
    import torch

    from solov2_edge.converters.calibration import read_calibration
    from solov2_edge.converters.to_onnx import export_onnx
    from solov2_edge.model import SOLOv2
    from solov2_edge.variants import variant

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    calibration = read_calibration(bundle().calibration, limit=2, allow_small=True)
    model = SOLOv2(variant(NAME)).eval()
    export_onnx(model, path, height=INPUT[0], width=INPUT[1], precision="int8", calibration=calibration, log=print)
    return path


def main() -> None:
    """Build, measure, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--instances", type=int, nargs="+", default=[0, 5, INSTANCES, 100])
    parser.add_argument("--artefact", type=Path, help="another .onnx, held against no bound")
    parser.add_argument("--cache", type=Path, default=kept_folder(), help="folder of the artefact (%(default)s)")
    args = parser.parse_args()
    frame = resized(read_frames(bundle().pictures, 1), *FULL_HD)[0]
    session = OrtSession(args.artefact or artefact(args.cache), threads=args.threads)
    spec, contract = session.manifest.spec, session.manifest.input
    geometry = fixed_geometry(*FULL_HD, contract.height, contract.width)
    segmenters = {
        count: Segmenter(Planted(session, planted_outputs(spec, geometry, count))) for count in args.instances
    }
    machine = read_machine()
    print(f"{machine.cpu}, {machine.usable_cores} cores, load {machine.load}, {args.threads} threads, {versions()}")
    times: dict[int, list[tuple[float, ...]]] = {count: [] for count in segmenters}
    batch = next(iter(segmenters.values()))._prepare(frame)[0]
    for number in range(-3, args.rounds):
        for count in np.roll(list(segmenters), number).tolist():
            segment = segmenters[count]
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            instances = segment(frame)
            whole = time.perf_counter() - start
            assert len(instances) == count
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            session.run(batch)
            network = time.perf_counter() - start
            if number >= 0:
                own = segment.timings
                times[count].append(
                    (whole, network, 1e-3 * own["preprocess"], 1e-3 * own["decode"], 1e-3 * own["network"])
                )
    print(f"{'1080p in':<14}{'frame ms':>9}{'network':>9}{'preprocess':>11}{'decode':>8}  frame / network (5..95 %)")
    bounded = args.artefact is None
    for count, rows in times.items():
        table = np.array(rows)
        low, ratio, high = np.percentile(table[:, 0] / table[:, 1], (5, 50, 95)).tolist()
        own = float(np.median(table[:, 0] / table[:, 4]))
        whole, network, before, after, _ = (1e3 * np.median(table, axis=0)).tolist()
        bound = f"  bound {BOUND}: {'met' if ratio <= BOUND else 'MISSED'}" if bounded and count == INSTANCES else ""
        print(
            f"{f'{count} out':<14}{whole:>9.1f}{network:>9.1f}{before:>11.1f}{after:>8.1f}  "
            f"{ratio:.3f} ({low:.2f}..{high:.2f}), over its own network {own:.3f}{bound}"
        )
    session.close()


if __name__ == "__main__":
    main()
