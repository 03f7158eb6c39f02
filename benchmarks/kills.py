"""Is a half-written file ever taken for a whole one? Conversions and trainings, killed a hundred times.

``python benchmarks/kills.py`` runs ``convert`` to every format and ``train``, each in a process of its own that dies
in one of three ways, in turn:

- ``time``: SIGKILL at a random moment between its beginning and the end of a run that nobody killed;
- ``touch``: SIGKILL at a random one of the moments at which it opens, renames, makes or deletes something in its
  output folder: what random moments rarely hit;
- ``byte``: by the system (SIGXFSZ) in the middle of a write, when a file grows beyond a random number of bytes.

After each kill, whatever stands in the folder under an artefact's name has to open, belong to its manifest and give the
outputs of a run that nobody killed; every ``.safetensors`` has to be a checkpoint. The same command then runs to its
end in the same folder, among what the killed ones left: after every kill of a training, after the last of a format.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from solov2_edge.cli import main as solov2_edge
from solov2_edge.console import Console

FORMATS = ("onnx", "tflite", "coreml", "ncnn")
SUFFIXES = (".onnx", ".tflite", ".mlpackage", ".ncnn")
WAYS = ("time", "touch", "byte")
EVENTS = frozenset(("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"))
SIZE = (64, 64)  # H x W of the networks' input


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed.

    Attributes:
        seconds: it took.
        touches: times it opened, renamed, made or deleted something in its folder.
        largest: bytes of the largest file it left.
        outputs: artefact's name -> what it gives for :func:`frame`; empty for a training.
    """

    seconds: float
    touches: int
    largest: int
    outputs: dict[str, list[np.ndarray]]


@dataclass
class Count:
    """What became of the kills of one command."""

    ways: Counter[str] = field(default_factory=Counter)
    early: int = 0  # the run had ended before its moment came
    files: int = 0  # whole files that were found after kills, and judged
    reruns: int = 0


def in_child(argv: list[str], arm: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Run the command in a forked process; return its wait status and how often it touched its folder."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        touches = watch_touches(argv[argv.index("-o") + 1])
        arm()
        code = solov2_edge([*argv, "--quiet"])
        os.write(writing, str(touches[0]).encode())
        os._exit(code)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            text = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    return status, int(text or 0)


def watch_touches(folder: str, last: int | None = None) -> list[int]:
    """Count from now on what happens in a folder, and be killed at the ``last`` of these moments."""
    touches = [0]

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not str(arguments[0]).startswith(folder):
            return
        touches[0] += 1
        if touches[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    return touches


def kill(argv: list[str], way: str, whole: Whole, draw: random.Random) -> bool:
    """Run the command and have it die in one way; return whether it did, before its end."""
    moment = draw.uniform(0, whole.seconds)
    touch = draw.randint(1, max(1, whole.touches))
    size = draw.randint(1, max(2, whole.largest))

    def arm() -> None:
        if way == "time":
            own = os.getpid()
            threading.Timer(moment, lambda: os.kill(own, signal.SIGKILL)).start()
        elif way == "touch":
            watch_touches(argv[argv.index("-o") + 1], touch)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    status, _ = in_child(argv, arm)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"it ended with {status} instead of being killed"
    return os.WIFSIGNALED(status)


def frame() -> np.ndarray:
    """Return the picture that artefacts are compared on."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def outputs_of(folder: Path) -> dict[str, list[np.ndarray]]:
    """Open every artefact in a folder and run it once; anything half written is refused by what opens it.

    Raises:
        InputError: something that has an artefact's name is not a whole one with its own manifest.
    """
    from solov2_edge.opening import open_artefact

    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            with open_artefact(path, threads=1) as segment:
                raw = segment.raw(frame())
                found[path.name] = [raw.class_scores, raw.kernels, raw.mask_features]
    return found


def judge(folder: Path, whole: Whole) -> int:
    """Check everything that stands in the folder under a final name; return how many files that were."""
    from solov2_edge.checkpoint import read_checkpoint

    found = outputs_of(folder)
    for name, outputs in found.items():
        for got, expected in zip(outputs, whole.outputs[name], strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    checkpoints = list(folder.glob("*.safetensors"))
    for path in checkpoints:
        read_checkpoint(path)
    return len(found) + len(checkpoints)


def run_whole(argv: list[str]) -> Whole:
    """Run the command once to its end, in the folder it names, and delete that."""
    folder = Path(argv[argv.index("-o") + 1])
    began = time.perf_counter()
    status, touches = in_child(argv)
    seconds = time.perf_counter() - began
    assert status == 0, f"{' '.join(argv)} ended with {status}"
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    whole = Whole(seconds, touches, largest, outputs_of(folder))
    assert judge(folder, whole) > 0, "nothing was written"
    shutil.rmtree(folder)
    return whole


def survive(argv: list[str], kills: int, draw: random.Random, ways: tuple[str, ...] = WAYS) -> Iterator[Count]:
    """Kill a command again and again in one folder, judging what stands there each time; yields the count so far."""
    folder, whole, count = Path(argv[argv.index("-o") + 1]), run_whole(argv), Count()
    training = argv[0] == "train"
    for number in range(kills):
        way = ways[number % len(ways)]
        resumed = [*argv, "--resume"] if training and (folder / "state.pt").exists() else argv
        began = time.perf_counter()
        died = kill(resumed, way, whole, draw)
        if not died:  # the machine was busy when the whole run was timed: the next moment is drawn from less
            whole = replace(whole, seconds=min(whole.seconds, time.perf_counter() - began))
        count.ways[way] += died
        count.early += not died
        count.files += judge(folder, whole)
        if training or number == kills - 1:
            again = [*argv, "--resume"] if training and (folder / "state.pt").exists() else argv
            status, _ = in_child(again)
            assert status == 0, f"the rerun ended with {status}"
            count.reruns += 1
            assert judge(folder, whole) > 0
        if training:
            shutil.rmtree(folder)
        yield count


def prepare(folder: Path) -> dict[str, list[str]]:
    """Write a checkpoint and a training set of a few pictures; return the commands, one for each name."""
    import cv2
    import torch

    from solov2_edge.checkpoint import save_checkpoint
    from solov2_edge.model import SOLOv2
    from solov2_edge.spec import BackboneSpec, ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(
        name="custom",
        class_names=("square",),
        backbone=BackboneSpec("basic", (1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8),
        pyramid_width=8,
        tower_depth=1,
        tower_width=8,
        mask_width=8,
        mask_channels=8,
        norm_groups=4,
    )
    spec = replace(spec, resize_box=SIZE)
    save_checkpoint(folder / "net.safetensors", spec, SOLOv2(spec).state_dict())
    images, annotations = [], []
    for number in range(4):
        picture = np.zeros((*SIZE, 3), np.uint8)
        picture[16:48, 16:48] = 200
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
        square = [16, 16, 48, 16, 48, 48, 16, 48]
        annotations.append(
            {"id": number + 1, "image_id": number + 1, "category_id": 1, "segmentation": [square], "area": 1024}
        )
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "set.json").write_text(json.dumps(data))
    size = f"{SIZE[0]}x{SIZE[1]}"
    convert = ["convert", str(folder / "net.safetensors"), "--input-size", size]
    commands = {name: [*convert, "--to", name, "-o", str(folder / f"out-{name}")] for name in FORMATS}
    commands["train"] = [
        *("train", "--annotations", str(folder / "set.json"), "--images", str(folder), "--variant", "nano"),
        *("--input-size", size, "--epochs", "3", "--batch-size", "2", "-o", str(folder / "run")),
    ]
    return commands


def main() -> None:
    """Kill every command ``--kills`` times and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each command (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[*FORMATS, "train"], metavar="NAME", help="commands to kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console(json_mode=False, quiet=False)
    draw = random.Random(options.seed)
    total = Count()
    heads = ("killed", *WAYS, "ended first", "judged", "reruns")
    print(f"{'command':10}" + "".join(f"{head:>{len(head) + 3}}" for head in heads))
    with tempfile.TemporaryDirectory() as place:
        commands = prepare(Path(place))
        # Once in this process, so that the children find everything imported.
        for name in options.only:
            warm = [*commands[name][:-1], str(Path(place) / "warm"), "--quiet"]
            with contextlib.redirect_stdout(sys.stderr):
                assert solov2_edge(warm) == 0, f"{name} does not run here"
            shutil.rmtree(Path(place) / "warm")
        for name in options.only:
            counts = survive(commands[name], options.kills, draw)
            *_, count = console.track(counts, options.kills, f"killing {name}")
            cells = [sum(count.ways.values()), *(count.ways[way] for way in WAYS)]
            cells += [count.early, count.files, count.reruns]
            row = "".join(f"{cell:>{len(head) + 3}}" for head, cell in zip(heads, cells, strict=True))
            print(f"{name:10}{row}", flush=True)
            total.ways.update(count.ways)
            total.files, total.reruns = total.files + count.files, total.reruns + count.reruns
    print(
        f"{sum(total.ways.values())} kills survived: {total.files} whole files were found after them, none was half "
        f"written; {total.reruns} reruns succeeded"
    )


if __name__ == "__main__":
    main()
