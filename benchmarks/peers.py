"""Our whole frame against straightforward ones and against other engines: a 1080p picture, everything in turns.

``python benchmarks/peers.py`` takes the bundled nano file on a picture of nuclei, and Light-448-R18 with random weights
(``--light int8 fp32``, built once into .cache/), whose network runs for its time and whose outputs are then replaced by
some that decode to 20 instances. Against the segmenter stand, on the same network outputs where they share an engine:

- plain NumPy: the sigmoid of every pixel of every candidate, IoU of all pairs, each mask resized on whole canvases by
  OpenCV, twice, as the reference does it;
- PyTorch, network and decoding, as ``solov2_edge.reference`` has it;
- OpenVINO on the same file with our decoding, where it is installed;
- networks named with ``--yolo FILE.onnx ...``, in ONNX Runtime at their own input size: the network alone, without
  preprocessing or masks, beside our network alone.

Times on the clock and of the processor (all threads together: what a busy machine does not distort), ratios taken round
by round with 5 to 95 % of them in brackets. Instances are compared after timing. The masks' way to the frame is then
timed by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from kept import kept_folder
from numpy.typing import NDArray
from plain_decode import OPTIONS, by_opencv, by_torch, plain_batch, plain_decode, plain_selection
from whole_frame import FULL_HD, INSTANCES, NAME, artefact
from whole_frame import INPUT as LIGHT_INPUT

from solov2_edge.bundled import bundle
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.model import SOLOv2
from solov2_edge.reference import Reference, load_reference, oracle_decode, reference_from_model
from solov2_edge.runtime import Instances
from solov2_edge.runtime.bench import PAUSE_SECONDS
from solov2_edge.runtime.bench_frames import read_frames, resized
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.packed_masks import pack
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess
from solov2_edge.runtime.session import Outputs, RawOutputs
from solov2_edge.runtime.threads import one_blas_thread
from solov2_edge.runtime.upscale import axis_table, upscale_mask
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

WARM_UP = 2  # rounds
CLOSE = 0.98  # share of our instances another engine must find too
NEAR = 20  # pixels between the edges of boxes worth comparing
Frame = NDArray[np.uint8]


@dataclass(slots=True)
class Contender:
    """Something that is timed; ``exact``: it must give our instances, not just nearly."""

    name: str
    work: Callable[[], Any]
    exact: bool = False
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    result: Any = None


def interleave(contenders: list[Contender], rounds: int) -> None:
    """Run everyone once a round, in an order that turns, each after a pause in which the last one's threads rest."""
    for number in range(-WARM_UP, rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            time.sleep(PAUSE_SECONDS)
            start, busy = time.perf_counter(), time.process_time()
            contender.result = contender.work()
            if number >= 0:
                contender.seconds.append(time.perf_counter() - start)
                contender.busy.append(time.process_time() - busy)


def report(contenders: list[Contender]) -> None:
    """Print medians and the ratios to the first, of the time on the clock and of the processor's, all threads."""
    for each in contenders:
        text = f"  {each.name:<44}"
        for own, base in ((each.seconds, contenders[0].seconds), (each.busy, contenders[0].busy)):
            low, ratio, high = np.percentile(np.array(own) / np.array(base), (5, 50, 95)).tolist()
            text += f"{1e3 * float(np.median(own)):8.1f} ms x{ratio:6.2f} ({low:5.2f}..{high:5.2f})"
        count = f"  {len(each.result)} instances" if isinstance(each.result, Instances) else ""
        print(text + count, flush=True)


def openvino_network(path: Path, threads: int) -> Callable[[NDArray[Any]], RawOutputs] | None:
    """Return the file's network in OpenVINO, or None where that is not installed."""
    if importlib.util.find_spec("openvino") is None:
        print("OpenVINO is not installed: left out (pip install openvino)")
        return None
    from solov2_edge.runtime.vino import VinoSession

    session = VinoSession(path, threads=threads)
    return lambda batch: raw_outputs(session.run(batch))


def raw_outputs(outputs: Outputs) -> RawOutputs:
    """Return what a graph that does not decode gives."""
    assert isinstance(outputs, RawOutputs)  # by the manifests of the files timed here
    return outputs


def whole_frames(
    path: Path, frame: Frame, reference: Reference, planted: int | None, yolo: list[Path], threads: int, rounds: int
) -> None:
    """Time the ways from the frame to its instances."""
    session = OrtSession(path, threads=threads)
    spec, contract = session.manifest.spec, session.manifest.input
    geometry = fixed_geometry(*frame.shape[:2], contract.height, contract.width)
    stand_in = None if planted is None else planted_outputs(spec, geometry, planted)

    def shown(raw: RawOutputs) -> RawOutputs:
        return raw if stand_in is None else stand_in

    def with_ours(network: Callable[[NDArray[Any]], RawOutputs]) -> Instances:
        raw = shown(network(preprocess(frame, geometry, contract.kind, spec)))
        with one_blas_thread():  # as the segmenter decodes
            return decode(raw, geometry, spec, OPTIONS)

    def plainly() -> Instances:
        return plain_decode(shown(session.run(plain_batch(frame, geometry, spec))), geometry, spec)

    def in_torch() -> Instances:
        raw = shown(reference.run_batch(preprocess(frame, geometry, "tensor", spec)))
        return oracle_decode(raw, geometry, spec, OPTIONS)

    contenders = [
        Contender("ours, ONNX Runtime", lambda: with_ours(session.run), exact=True),
        Contender("plain NumPy and OpenCV, ONNX Runtime", plainly, exact=True),
        Contender("PyTorch float32, as the reference does it", in_torch, exact=stand_in is not None),
    ]
    other = openvino_network(path, threads)
    if other is not None:
        contenders.append(Contender("OpenVINO, our decoding", lambda: with_ours(other), exact=stand_in is not None))
    batch = preprocess(frame, geometry, contract.kind, spec)
    contenders.append(Contender("network alone: ours, ONNX Runtime", lambda: session.run(batch)))
    contenders += [yolo_network(each, threads) for each in yolo]
    print(f"{path.name}, {contract.height} x {contract.width}, {planted or 'its own'} instances")
    interleave(contenders, rounds)
    report(contenders)
    for each in contenders:
        if isinstance(each.result, Instances):
            compare(each, contenders[0].result)
    masks_alone(shown(session.run(batch)), geometry, spec, rounds)
    session.close()


def yolo_network(path: Path, threads: int) -> Contender:
    """Return a named network, alone, at its own input size (640 x 640 where the file leaves it open)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    fallback = (1, 3, 640, 640)
    shape = [side if isinstance(side, int) else other for side, other in zip(node.shape, fallback, strict=True)]
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}[node.type]
    batch = np.random.default_rng(0).random(shape).astype(dtype)
    size = " x ".join(str(side) for side in shape)
    return Contender(f"network alone: {path.name}, {size}", lambda: session.run(None, {node.name: batch}))


def masks_alone(raw: RawOutputs, geometry: Geometry, spec: ModelSpec, rounds: int) -> None:
    """Time the masks' way from quarter scale to the frame."""
    probability = plain_selection(raw, spec)[0]
    boxes = pack(probability > OPTIONS.mask_threshold).boxes
    with np.errstate(divide="ignore"):
        logits = np.log(probability) - np.log1p(-probability)
    rows = axis_table(probability.shape[1], geometry.resized_height, geometry.frame_height)
    columns = axis_table(probability.shape[2], geometry.resized_width, geometry.frame_width)

    def crops() -> list[tuple[tuple[int, int], NDArray[np.bool_]]]:
        pairs = zip(logits, boxes, strict=True)
        return [upscale_mask(mask, box, rows, columns, OPTIONS.mask_threshold) for mask, box in pairs]

    contenders = [
        Contender(f"{len(boxes)} masks to 1080p: ours, as crops", crops),
        Contender("OpenCV, whole canvases", lambda: by_opencv(probability, geometry)),
        Contender("PyTorch, whole canvases", lambda: by_torch(probability, geometry)),
    ]
    with one_blas_thread():
        interleave(contenders, rounds)
    report(contenders)
    ours = np.zeros_like(contenders[1].result)
    for canvas, ((y0, x0), crop) in zip(ours, contenders[0].result, strict=True):
        canvas[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    for each in contenders[1:]:
        # The logits went through a probability and back, which costs the last bits near the threshold.
        assert np.count_nonzero(each.result != ours) <= 1 + 1e-5 * ours.size, each.name


def compare(contender: Contender, ours: Instances) -> None:
    """Refuse other instances than ours: any where the network's outputs are the same, else a few are forgiven."""
    theirs = contender.result
    if contender.exact:
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-5, err_msg=contender.name)
        np.testing.assert_array_equal(np.sort(theirs.labels), np.sort(ours.labels), err_msg=contender.name)
    found = 0
    for mine in ours:
        first, same = mine.masks[0], theirs[theirs.labels == mine.labels[0]]
        near = same[np.abs(same.boxes - mine.boxes).max(axis=1, initial=0) < NEAR]
        unions = (np.count_nonzero(first | m) for m in near.masks)
        found += any(np.count_nonzero(first & m) >= 0.95 * max(u, 1) for u, m in zip(unions, near.masks, strict=True))
    share = found / max(len(ours), 1)
    assert share >= (1 if contender.exact else CLOSE), f"{contender.name}: {share:.1%} of our instances"


def main() -> None:
    """Time every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--light", nargs="*", choices=("int8", "fp32"), default=["int8"], help="precisions of Light")
    parser.add_argument("--yolo", nargs="+", type=Path, default=[], help="ONNX files of other segmenters")
    parser.add_argument("--cache", type=Path, default=kept_folder(), help="folder of built artefacts (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = read_machine()
    print(f"{machine.cpu}, {machine.usable_cores} cores, load {machine.load}, {args.threads} threads, {versions()}")
    frame = resized(read_frames(bundle().pictures, 1), *FULL_HD)[0]
    nano = load_reference(bundle().checkpoint, input_size=(448, 448))
    whole_frames(bundle().artefact, frame, nano, None, args.yolo, args.threads, args.rounds)
    torch.manual_seed(0)
    light = SOLOv2(variant(NAME)).eval()
    for precision in args.light:
        path = artefact(args.cache) if precision == "int8" else args.cache / f"{NAME}-random.{precision}.onnx"
        if not path.exists():
            export_onnx(light, path, height=LIGHT_INPUT[0], width=LIGHT_INPUT[1], precision=precision)
        reference = reference_from_model(light, input_size=LIGHT_INPUT)
        whole_frames(path, frame, reference, INSTANCES, args.yolo, args.threads, args.rounds)


if __name__ == "__main__":
    main()
