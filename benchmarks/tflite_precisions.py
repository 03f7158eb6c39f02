"""What integers cost the bundled model in TFLite, and how the ways to get them compare.

``python benchmarks/tflite_precisions.py`` converts to every precision, evaluates each file on the 54 validation
pictures and times the networks on 2 threads in turns; some minutes, of which int16x8 takes most (``--precisions``).

``... tflite_precisions.py choices`` shows what the defaults were chosen by: calibration methods and sizes, and which
layers stay float; ``... layers`` measures every layer alone and left out. Both look at the shipped calibration
pictures only: every second one calibrates, the others are held out. With ``--annotations JSON --images DIR`` of
further pictures the AP on the first 48 of them stands beside. Validation pictures never enter a choice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import Calibration, read_calibration
from solov2_edge.converters.sensitivity import measure_sensitivity, signal_to_noise
from solov2_edge.converters.tflite_census import take_census
from solov2_edge.converters.tflite_graph import Graph, Layer, read_graph
from solov2_edge.converters.tflite_lower import lower
from solov2_edge.converters.tflite_metadata import embed_manifest
from solov2_edge.converters.tflite_pack import packed
from solov2_edge.converters.tflite_quantise import count_for, quantise_layers
from solov2_edge.converters.tflite_recipes import default_islands, make_plan
from solov2_edge.converters.tflite_traceable import TfliteTraceable
from solov2_edge.converters.to_tflite import PRECISIONS, export_tflite
from solov2_edge.converters.value_ranges import METHODS
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import evaluate
from solov2_edge.runtime.pictures import read_picture

CONTRACT = InputContract("image", 448, 448)  # the size the model was trained at
VALIDATION = Path(__file__).resolve().parent.parent / "tests" / "data" / "nuclei_val"
THREADS, ROUNDS, SLOW_ROUNDS, SLOW_MS = 2, 30, 3, 1000.0
LIMIT = 48  # further pictures evaluated, when given
ALLOWED_DROP = 0.5  # points of AP, the design's number

Figures = dict[str, float]


def precisions(names: Iterable[str]) -> None:
    """Print accuracy, size and time of the very files that ship."""
    files = bundle()
    model, checkpoint = load_model(files.checkpoint)
    calibration = read_calibration(files.calibration)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"nano-nuclei.{name}.tflite" for name in names}
        for name, path in paths.items():
            given = calibration if name in ("int8", "int16x8") else None
            options: dict[str, Any] = {"precision": name, "calibration": given, "source_sha256": checkpoint.sha256}
            export_tflite(model, path, height=CONTRACT.height, width=CONTRACT.width, **options)
        times = interleaved({name: path.read_bytes() for name, path in paths.items()})
        print(f"{'precision':<13}{'AP':>6}{'drop':>7}{'AP50':>7}{'AP75':>7}{'MB':>7}{'ms':>9}{'ratio':>7}  layers")
        exact = None
        for name, path in paths.items():
            with load(path, threads=THREADS) as segment:
                found = evaluate(segment, VALIDATION / "instances.json", VALIDATION / "images")
            exact = found.ap if exact is None else exact
            line = f"{name:<13}{found.ap:>6.2f}{exact - found.ap:>7.2f}{found.ap50:>7.2f}{found.ap75:>7.2f}"
            ratio = times[next(iter(times))] / times[name]
            size = path.stat().st_size / 1e6
            print(f"{line}{size:>7.2f}{times[name]:>9.1f}{ratio:>7.2f}  {take_census(path.read_bytes())}", flush=True)
            assert name not in ("fp16", "int8-dynamic", "int8") or exact - found.ap <= ALLOWED_DROP


def interleaved(files: Mapping[str, bytes]) -> dict[str, float]:
    """Return the median milliseconds of each network, runs taken in turn."""
    batch = np.random.default_rng(0).integers(0, 256, (1, CONTRACT.height, CONTRACT.width, 3), dtype=np.uint8)
    runners: dict[str, Any] = {}
    for name, data in files.items():
        runners[name] = Interpreter(model_content=data, num_threads=THREADS)
        runners[name].allocate_tensors()
        runners[name].set_tensor(runners[name].get_input_details()[0]["index"], batch)
    times: dict[str, list[float]] = {name: [] for name in files}
    for number in range(ROUNDS + 1):
        for name, runner in runners.items():
            if number < SLOW_ROUNDS or times[name][0] < SLOW_MS:
                start = time.perf_counter()
                runner.invoke()
                times[name].append((time.perf_counter() - start) * 1000)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


class Bench:
    """The float network, a calibration half, a held-out half and its float outputs."""

    def __init__(self, annotations: str | None, images: str | None) -> None:
        self.model, _ = load_model(bundle().checkpoint)
        whole = read_calibration(bundle().calibration)
        self.halves = [Calibration(whole.pictures[start::2], "") for start in (0, 1)]
        first = next(self.halves[0].batches(self.model.spec, CONTRACT))
        self.flatbuffer = lower(TfliteTraceable(self.model, CONTRACT), first)
        self.graph: Graph = read_graph(self.flatbuffer)[1]
        self.held_out = [read_picture(path) for path in self.halves[1].pictures]
        self.further = annotations, images
        self.exact = self._with(self.flatbuffer, self._outputs)

    def counts(self, calibration: Calibration) -> Mapping[str, Any]:
        """Count values over calibration pictures."""
        return count_for(self.flatbuffer, calibration.batches(self.model.spec, CONTRACT))

    def measure(self, flatbuffer: bytes) -> Figures:
        """Return dB of each output on the held-out half, and AP where further pictures are given."""
        figures = signal_to_noise(self.exact, self._with(flatbuffer, self._outputs))
        annotations, images = self.further
        if annotations and images:
            figures["AP"] = self._with(flatbuffer, lambda s: evaluate(s, annotations, images, limit=LIMIT).ap)
        return figures

    def _outputs(self, segment: Any) -> list[Any]:
        return [segment.raw(frame) for frame in self.held_out]

    def _with(self, flatbuffer: bytes, use: Callable[[Any], Any]) -> Any:
        manifest = Manifest(spec=self.model.spec, format="tflite", precision="fp32", input=CONTRACT)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trial.tflite"
            path.write_bytes(embed_manifest(packed(flatbuffer), manifest.embedded().to_json()))
            with load(path, threads=THREADS) as segment:
                return use(segment)


def choices(bench: Bench) -> None:
    """Print what calibration methods, numbers of pictures and float layers do."""
    calibration = bench.halves[0]
    _head(bench.measure(bench.flatbuffer), "float32")
    for number in (8, 16, 32):
        part = Calibration(calibration.pictures[:: len(calibration.pictures) // number], "")
        counts = bench.counts(part)
        for method in METHODS:
            data = quantise_layers(bench.flatbuffer, "int8", None, counts, method)
            _row(f"{method}, {number} pictures", bench.measure(data))
    counts = bench.counts(calibration)
    islands = default_islands(bench.graph)
    first = {name: mode for name, mode in islands.items() if mode == "float"}
    last = set(islands) - set(first)
    for label, tried in (
        ("no islands", {}),
        ("first layer float", first),
        ("last layers dynamic", dict.fromkeys(last, "dynamic")),
        ("first float, last dynamic (default)", islands),
        ("first and last float", dict.fromkeys(islands, "float")),
        ("first and last dynamic", dict.fromkeys(islands, "dynamic")),
    ):
        _row(label, bench.measure(quantise_layers(bench.flatbuffer, "int8", tried, counts)))
    _row("int8-dynamic", bench.measure(quantise_layers(bench.flatbuffer, "int8-dynamic", None, {})))
    _row("int8-dynamic, no islands", bench.measure(quantise_layers(bench.flatbuffer, "int8-dynamic", {}, {})))


def layers(bench: Bench, pictures: int = 12) -> None:
    """Print every layer's effect, alone in int8 and left out; a tower's layer on five levels has one set of weights."""
    counts = bench.counts(bench.halves[0])
    bench.held_out, bench.exact = bench.held_out[:pictures], bench.exact[:pictures]
    modes = make_plan(bench.graph, "integer", {}).layers
    sharing: dict[int, list[Layer]] = {}
    for layer in bench.graph.layers:
        if modes[layer.name] == "integer":
            sharing.setdefault(bench.graph.operators[layer.operator].inputs[1], []).append(layer)
    groups = {_about(same): [layer.name for layer in same] for same in sharing.values()}

    def build(kept: frozenset[str]) -> bytes:
        return quantise_layers(bench.flatbuffer, "int8", dict.fromkeys(kept, "float"), counts)

    found = measure_sensitivity(groups, build, bench.measure, log=lambda line: print(line, file=sys.stderr))
    _head(found.floating, "all float")
    _row("all int8", found.reduced)
    for effect in found.effects:
        _row(effect.name, effect.alone)
        _row("  left out", effect.without)


def _about(same: list[Layer]) -> str:
    first = same[0]
    name = first.name if len(same) == 1 else f"{first.name} and {len(same) - 1} more"
    return f"{name}, {'x'.join(map(str, first.weights))}, {first.hint.rpartition('traceable/')[2]}"


def _head(figures: Figures, label: str) -> None:
    print(f"{'':<52}" + "".join(f"{name:>15}" for name in figures))
    _row(label, figures)


def _row(label: str, figures: Mapping[str, float]) -> None:
    print(f"{label[:51]:<52}" + "".join(f"{value:>15.2f}" for value in figures.values()), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="precisions", choices=("precisions", "choices", "layers"))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--annotations", help="COCO instances of further pictures, to choose by")
    parser.add_argument("--images", help="their folder")
    args = parser.parse_args()
    if args.what == "precisions":
        precisions(args.precisions)
    else:
        {"choices": choices, "layers": layers}[args.what](Bench(args.annotations, args.images))


if __name__ == "__main__":
    main()
