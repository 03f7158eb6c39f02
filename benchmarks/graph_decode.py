"""Decoding in the graph against decoding on the host: from raw outputs in memory to instances in the frame.

Run with ``python benchmarks/graph_decode.py``. The bundled network's raw outputs of real pictures are cut to exactly 0,
5, 20 and 100 instances, as ``solov2-edge bench`` does, and decoded to a 1080 x 1920 frame by ``runtime/decode.py`` and
by the decoder that ``convert --decode graph`` appends, alone in ONNX Runtime, with room for several numbers of
candidates. Each number of threads gets a process of its own; contenders take turns. One thread is timed by the
process's CPU time, more by the clock: medians over the rounds, and the median of the rounds' ratios. After timing, both
must have given the same instances. Where PyTorch finds a CUDA device the decoder also runs there, from raw outputs on
the GPU to masks in the host's memory; the host's decoding then includes bringing raw outputs down.
"""

# ruff: noqa: E402  (the thread count must stand before NumPy loads its BLAS)
from __future__ import annotations

import argparse
import os
import subprocess
import sys

THREADS = int(os.environ.get("OMP_NUM_THREADS", "0"))
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(THREADS or 1)

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime
import torch

from solov2_edge.bundled import bundle
from solov2_edge.converters.decode_gate import host_instances
from solov2_edge.converters.graph_decode import GraphDecoder
from solov2_edge.converters.onnx_trace import trace_onnx
from solov2_edge.manifest import DECODED_NAMES, OUTPUT_NAMES, GraphDecode
from solov2_edge.runtime import load, read_picture
from solov2_edge.runtime.bench import PAUSE_SECONDS, Contender, look
from solov2_edge.runtime.bench_scenes import Scene, find_scenes
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.decoded import decoded_instances
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import list_pictures
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs
from solov2_edge.spec import ModelSpec

COUNTS = (0, 5, 20, 100)
ROOMS = (500, 256, 128)  # for candidates
FRAME = (1080, 1920)
WARM_UP = 2  # rounds
Decode = Callable[[], Instances]


def scenes_of(spec: ModelSpec) -> tuple[Scene, ...]:
    """Return raw outputs of exactly the wanted numbers of instances, at the geometry of the large frame."""
    with load(bundle().artefact, threads=THREADS) as segment:
        frames = tuple(read_picture(path) for path in list_pictures(bundle().pictures))
        size = segment.manifest.input.height, segment.manifest.input.width
        contender = Contender("nano", segment, spec, segment.options, frames, lambda h, w: fixed_geometry(h, w, *size))
        seen = look(contender, len(frames))
        (found,) = find_scenes([contender], [seen], COUNTS)
    geometry = fixed_geometry(*FRAME, *size)
    return tuple(replace(scene, geometry=geometry) for scene in found)


def in_onnx_runtime(spec: ModelSpec, room: int, raw: RawOutputs) -> Callable[[RawOutputs], DecodedOutputs]:
    """Return the decoder alone in ONNX Runtime."""
    inputs = [torch.from_numpy(array) for array in (raw.class_scores, raw.kernels, raw.mask_features)]
    decoder = GraphDecoder(spec, GraphDecode(max_candidates=room))
    graph = trace_onnx(decoder, inputs, OUTPUT_NAMES, DECODED_NAMES, 18)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, THREADS
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(raw: RawOutputs) -> DecodedOutputs:
        feeds = dict(zip(OUTPUT_NAMES, (raw.class_scores, raw.kernels, raw.mask_features), strict=True))
        return DecodedOutputs(*session.run(list(DECODED_NAMES), feeds))

    return run


def on_gpu(spec: ModelSpec, room: int, scene: Scene) -> tuple[Decode, Decode]:
    """Return decoding on the GPU and on the host, both of raw outputs that lie on the GPU."""
    decoder = GraphDecoder(spec, GraphDecode(max_candidates=room)).cuda()
    raw = scene.raw
    arrays = [torch.from_numpy(array).cuda() for array in (raw.class_scores, raw.kernels, raw.mask_features)]

    def graph() -> Instances:
        with torch.inference_mode():
            outputs = DecodedOutputs(*(output.cpu().numpy() for output in decoder(*arrays)))
        return decoded_instances(outputs, scene.geometry, spec, scene.options)

    def host() -> Instances:
        return decode(RawOutputs(*(array.cpu().numpy() for array in arrays)), scene.geometry, spec, scene.options)

    return graph, host


def contenders(spec: ModelSpec, scenes: tuple[Scene, ...]) -> dict[tuple[str, int], tuple[Decode, Instances]]:
    """Return (name, instances) -> what is timed and what it must give."""
    engines = {room: in_onnx_runtime(spec, room, scenes[0].raw) for room in ROOMS}
    found: dict[tuple[str, int], tuple[Decode, Instances]] = {}

    def in_graph(scene: Scene, run: Callable[[RawOutputs], DecodedOutputs]) -> Decode:
        return lambda: decoded_instances(run(scene.raw), scene.geometry, spec, scene.options)

    def on_host(scene: Scene) -> Decode:
        return lambda: decode(scene.raw, scene.geometry, spec, scene.options)

    for scene in scenes:
        limit = max(scene.instances, 1)  # the scene's own, of so many best
        expected = decode(scene.raw, scene.geometry, spec, scene.options)
        found["host", scene.instances] = on_host(scene), expected
        for room, run in engines.items():
            found[f"graph, room for {room}", scene.instances] = (
                in_graph(scene, run),
                host_instances(scene.raw, scene.geometry, spec, GraphDecode(max_candidates=room))[:limit],
            )
        if torch.cuda.is_available():
            graph, host = on_gpu(spec, ROOMS[0], scene)
            found["GPU to host", scene.instances] = host, expected
            found[f"GPU, room for {ROOMS[0]}", scene.instances] = graph, expected
    return found


def measure(rounds: int) -> None:
    """Time everything in turn with the threads of this process, check it and print it."""
    torch.set_num_threads(THREADS)
    with load(bundle().artefact) as segment:
        spec = segment.spec
    scenes = scenes_of(spec)
    entries = contenders(spec, scenes)
    clock = time.process_time if THREADS == 1 and not torch.cuda.is_available() else time.perf_counter
    times: dict[tuple[str, int], list[float]] = {key: [] for key in entries}
    for turn in range(-WARM_UP, rounds):
        for key, (run, _) in entries.items():
            time.sleep(PAUSE_SECONDS / 10)
            start = clock()
            run()
            if turn >= 0:
                times[key].append(1e3 * (clock() - start))
    for key, (run, expected) in entries.items():
        got = run()
        np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-4, err_msg=str(key))
        assert np.count_nonzero(got.masks != expected.masks) <= 1e-6 * got.masks.size, key
    print(f"\n{THREADS} thread(s), {rounds} rounds, ms by the {'CPU' if clock is time.process_time else 'clock'}")
    names = list(dict.fromkeys(name for name, _ in entries))
    print(
        f"{'':<20}" + "".join(f"{f'{s.instances} ({s.candidates})':>18}" for s in scenes) + "   instances (candidates)"
    )
    for name in names:
        base = "GPU to host" if name.startswith("GPU") else "host"
        cells = []
        for scene in scenes:
            own, other = (np.array(times[n, scene.instances]) for n in (name, base))
            cells.append(f"{np.median(own):.1f} = {np.median(own / other):.1f} x host")
        print(f"{name:<20}" + "".join(f"{cell:>18}" for cell in cells))


def main() -> None:
    """Measure with each number of threads in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    if os.environ.get("SOLOV2_EDGE_GRAPH_DECODE"):
        measure(args.rounds)
        return
    for threads in args.threads:
        own = {**os.environ, "OMP_NUM_THREADS": str(threads), "SOLOV2_EDGE_GRAPH_DECODE": "1"}
        subprocess.run([sys.executable, __file__, "--rounds", str(args.rounds)], env=own, check=True)


if __name__ == "__main__":
    main()
