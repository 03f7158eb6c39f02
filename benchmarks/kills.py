"""Is a half-written file ever taken for a whole one? Conversions and trainings, killed a hundred times.

``python benchmarks/kills.py`` runs ``convert`` to every format and ``train``, each in a process of its own that dies
in one of three ways, in turn:

- ``time``: SIGKILL at a random moment between the first touch of its output folder and the end of a run that nobody
  killed;
- ``touch``: SIGKILL at a random one of the moments at which it opens, renames, makes or deletes something in its
  output folder: what random moments rarely hit;
- ``byte``: by the system (SIGXFSZ) in the middle of a write, when a file grows beyond a random number of bytes.

After each kill, whatever stands in the folder under an artefact's name has to open, belong to its manifest and give the
outputs of a run that nobody killed; every ``.safetensors`` has to be a checkpoint. The same command then runs to its
end in the same folder, among what the killed ones left: after every kill of a training, after the last of a format.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from solov2_edge.console import Console

FORMATS = ("onnx", "tflite", "coreml", "ncnn")
SUFFIXES = (".onnx", ".tflite", ".mlpackage", ".ncnn")
WAYS = ("time", "touch", "byte")
DYING_RUN = Path(__file__).with_name("dying_run.py")
SIZE = (64, 64)  # H x W of the networks' input


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed.

    Attributes:
        first: seconds from its beginning to the first touch of its folder.
        seconds: it took.
        touches: times it opened, renamed, made or deleted something in its folder.
        largest: bytes of the largest file it left.
        outputs: artefact's name -> what it gives for :func:`frame`; empty for a training.
    """

    first: float
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


def run(argv: list[str], *death: str) -> tuple[int, dict[str, float]]:
    """Run the command in a process of its own.

    Args:
        argv: The verb and its arguments, ``-o FOLDER`` among them.
        death: Options of ``dying_run.py`` that end it early.

    Returns:
        Its exit code, negative for a signal's number, and what it reported at its end: seconds to the first touch of
        the folder and to the end, and touches.
    """
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        command = [sys.executable, str(DYING_RUN), *death, str(report), *argv]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        return code, json.loads(report.read_text()) if report.exists() else {}


def kill(argv: list[str], way: str, whole: Whole, draw: random.Random) -> bool:
    """Run the command and have it die in one way; return whether it did, before its end."""
    death = {
        "time": ("--seconds", f"{draw.uniform(whole.first, whole.seconds):.4f}"),
        "touch": ("--touch", str(draw.randint(1, max(1, whole.touches)))),
        "byte": ("--bytes", str(draw.randint(1, max(2, whole.largest)))),
    }[way]
    code, _ = run(argv, *death)
    assert code <= 0, f"{' '.join(argv)} ended with {code} instead of being killed by {' '.join(death)}"
    return code < 0


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
    code, report = run(argv)
    assert code == 0, f"{' '.join(argv)} ended with {code}"
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    whole = Whole(report["first"], report["seconds"], int(report["touches"]), largest, outputs_of(folder))
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
        if not died:  # the machine was busier when the whole run was timed: the next moment is drawn from less
            share = min(1.0, (time.perf_counter() - began) / whole.seconds)
            whole = replace(whole, first=whole.first * share, seconds=whole.seconds * share)
        count.ways[way] += died
        count.early += not died
        count.files += judge(folder, whole)
        if training or number == kills - 1:
            again = [*argv, "--resume"] if training and (folder / "state.pt").exists() else argv
            code, _ = run(again)
            assert code == 0, f"the rerun ended with {code}"
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
