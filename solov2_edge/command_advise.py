"""``solov2-edge advise``: runs artefacts in turn on this machine and says which one to ship."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import INT8_ENGINES, require_positive
from solov2_edge.command_segment import add_segmenter_arguments, segmenter_options
from solov2_edge.console import CommandResult, Console
from solov2_edge.engine_choice import Placed, expanded, placed
from solov2_edge.engine_memory import remember_engines
from solov2_edge.errors import GateError, require
from solov2_edge.manifest import PRECISIONS, Manifest, size_of
from solov2_edge.opening import is_checkpoint, open_artefact, open_segmenter

if TYPE_CHECKING:
    from solov2_edge.runtime.advice import Candidate
    from solov2_edge.runtime.evaluate import Evaluation
    from solov2_edge.runtime.machine import Machine

__all__ = ["add_arguments", "run"]

SECONDS = 30.0
MAX_DROP = 0.5  # points of AP that int8 may cost, as everywhere in this project
FRAMES = 30
WARM_UP = 3
BUSY = 0.5  # of the cores: times of a machine with more to do are not those of the machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="ARTEFACT", help="artefacts of one network, or folders of them"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help="time to measure for, in all (%(default)g)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures to run on (default: the bundled ones)")
    parser.add_argument(
        "--annotations", type=Path, metavar="PATH", help="COCO json, LabelMe or YOLO of --images: accuracy is measured"
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=MAX_DROP,
        metavar="POINTS",
        help="mask AP that may be lost, with --annotations (%(default)g)",
    )
    parser.add_argument(
        "--remember",
        action="store_true",
        help="write down for this machine which engine ran each artefact fastest: load(..., engine='auto') and "
        "--engine auto of other verbs open it there",
    )
    add_segmenter_arguments(parser, several_engines=True)


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Measure, decide and say why; exit code 3 if every artefact loses too much accuracy."""
    from solov2_edge.runtime.machine import read_machine

    models = _check(args)
    machine = read_machine()  # before our own work loads it
    manifests = {model: _manifest(model.path) for model in models}
    timed = [model for model in models if not _interpreted(model.path)]
    baseline = min(timed, key=lambda model: PRECISIONS.index(manifests[model].precision))
    ordered = [baseline, *(model for model in models if model is not baseline)]
    judged = [model for model in ordered if model in timed] if args.annotations is not None else []
    evaluations = {model: _evaluate(model, args, console) for model in judged}
    document = _measure([model for model in ordered if model in timed], args, console)

    from solov2_edge.runtime.advice import advise

    candidates = [_candidate(model, manifests[model], document, evaluations, baseline) for model in ordered]
    advice = advise(candidates, baseline.name, args.max_drop)
    caveats = [
        *_differences(list(manifests.values())),
        *_doubts(evaluations, baseline, args.max_drop),
        *_elsewhere([model for model in models if model not in evaluations]),
        *_for_others(manifests),
        *_business(machine),
    ]
    _print(candidates, advice.choice, console)
    for name, reason in advice.reasons.items():
        console.say(f"not {name}: {reason}")
    for caveat in caveats:
        console.say(f"note: {caveat}")
    console.say(advice.verdict)
    remembered = remember_engines(candidates, ordered, args, console) if args.remember else []
    data = {
        "choice": next((model.path for model in models if model.name == advice.choice), None),
        "verdict": advice.verdict,
        "reasons": advice.reasons,
        "notes": caveats,
        "accuracy_known": advice.accuracy_known,
        "engine": next((model.engine for model in models if model.name == advice.choice), None),
        "remembered": remembered,
        "baseline": baseline.path,
        "max_drop": args.max_drop,
        "candidates": [_plain(candidate) for candidate in candidates],
        "measurement": document,
    }
    return CommandResult(data, 0 if advice.choice is not None else GateError.exit_code)


def _check(args: argparse.Namespace) -> list[Placed]:
    """Return the artefacts in each engine asked for; refuse what cannot be compared, before any work is done."""
    files = args.models = expanded(args.models)
    for model in files:
        require(model.exists(), f"{model}: no such artefact")
        require(not is_checkpoint(model), f"{model} is a checkpoint; advice is on artefacts, which ship: convert it")
    models = placed(files, args.engine)
    require(
        len(models) > 1,
        f"advice needs at least two artefacts to choose from, got {files[0]}; add another, or a second --engine",
    )
    require(len({model.name for model in files}) == len(files), "two artefacts have the same name; rename one")
    timed = [model for model in models if not _interpreted(model.path)]
    require(bool(timed), "Core ML packages run on Apple's devices only; advice on them needs a Mac")
    require(0 < args.seconds < float("inf"), f"--seconds must be above 0, got {args.seconds}")
    require(args.max_drop >= 0, f"--max-drop must be a number of AP points of at least 0, got {args.max_drop}")
    require(args.annotations is None or args.images is not None, "--annotations needs --images, the pictures' folder")
    for path in (args.annotations, args.images):
        require(path is None or path.exists(), f"{path} does not exist")
    require_positive("--threads", args.threads)
    require_positive("--max-instances", args.max_instances)
    if args.remember:
        several = {one.path for one in models if sum(other.path == one.path for other in models) > 1}
        require(bool(several), "--remember needs an artefact in two engines or more; add --engine all")
        require(args.providers is None, "--remember is of engines as they open by themselves; leave --providers out")
    return models


def _interpreted(model: Path) -> bool:
    """Whether this machine can compute what the artefact says, and cannot say how long it takes."""
    return model.suffix.lower() == ".mlpackage" and sys.platform != "darwin"


def _manifest(model: Path) -> Manifest:
    from solov2_edge.runtime.artefact import read_sidecar

    sidecar = read_sidecar(model)  # spares the interpreter
    if sidecar is not None:
        return sidecar
    with open_artefact(model) as segment:
        return segment.manifest


def _evaluate(model: Placed, args: argparse.Namespace, console: Console) -> Evaluation:
    from solov2_edge.runtime.evaluate import evaluate

    options = segmenter_options(argparse.Namespace(**{**vars(args), "engine": model.engine}))
    segment = open_segmenter(model.path, **options)
    with console.counter(model.name) as progress:
        return evaluate(segment, args.annotations, args.images, progress=progress)


def _measure(models: Sequence[Placed], args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run what can be timed in turn, and return the document of ``bench``."""
    from solov2_edge.bench_run import measure_models

    wanted = {
        "models": [model.path for model in models],
        "source": [] if args.images is None else [args.images],
        "frames": FRAMES,
        "warm_up": WARM_UP,
        "repeats": None,
        "instances": [],
        "masks": "crops",
        "stream": None,
        "input_size": None,
        "threads": None if args.threads is None else [args.threads],
    }
    return measure_models(argparse.Namespace(**{**vars(args), **wanted}), [], args.seconds, console)


def _candidate(
    model: Placed,
    manifest: Manifest,
    document: dict[str, Any],
    evaluations: dict[Placed, Evaluation],
    baseline: Placed,
) -> Candidate:
    from solov2_edge.runtime.advice import Candidate, median_error

    entry = next((result for result in document["results"] if result["name"] == model.name), None)
    ratio = entry["ratio_to_first"]["frame"] if entry else None
    return Candidate(
        name=model.name,
        precision=manifest.precision,
        size_bytes=size_of(model.path),
        frame_ms=entry["stages_ms"]["frame"]["p50"] if entry else None,
        ratio=ratio["p50"] if ratio else None,
        ratio_error=median_error(ratio["p05"], ratio["p95"], entry["rounds"]) if entry and ratio else 0.0,
        drop=evaluations[baseline].ap - evaluations[model].ap if model in evaluations else None,
        parity=max(manifest.parity.values(), default=None),
    )


def _differences(manifests: list[Manifest]) -> Iterator[str]:
    """Say where artefacts differ in more than their precision."""
    if len({manifest.source_sha256 for manifest in manifests}) > 1:
        yield "the artefacts were made from different checkpoints"
    if len({(manifest.input.height, manifest.input.width) for manifest in manifests}) > 1:
        yield "the artefacts have different input sizes"


def _doubts(evaluations: dict[Placed, Evaluation], baseline: Placed, max_drop: float) -> Iterator[str]:
    """Say how far the figures of accuracy can be trusted."""
    from solov2_edge.runtime.bootstrap import doubt, drop_interval

    if not evaluations:
        yield "accuracy was not measured, only what manifests record: add --annotations JSON --images DIR"
    for model, evaluation in evaluations.items():
        if model is not baseline:
            interval = drop_interval(evaluations[baseline].matches, evaluation.matches)
            said = doubt(interval, max_drop, evaluation.pictures)
            if said:
                yield f"{model.name}: {said}"


def _elsewhere(models: Sequence[Placed]) -> Iterator[str]:
    """Say where accuracy was recorded in another engine than the one that ran here."""
    from solov2_edge.runtime.loading import engines_of

    for model in models:
        own = next(iter(engines_of(model.path)))
        if model.engine not in (None, own):
            yield f"{model.name}: what its manifest records was measured in {own}"


def _for_others(manifests: dict[Placed, Manifest]) -> Iterator[str]:
    """Say which 8-bit files run in another engine than the one whose form they have."""
    from solov2_edge.runtime.loading import engines_of

    for model, manifest in manifests.items():
        target = (manifest.quantisation or {}).get("target")
        engine = model.engine or next(iter(engines_of(model.path)))
        if target is not None and target != engine:
            yield f"{model.name}: the file was made for {INT8_ENGINES.get(target, target)}"


def _business(machine: Machine) -> Iterator[str]:
    """Say if something else was using the machine."""
    if machine.load is not None and machine.load > BUSY * machine.usable_cores:
        cores = f"{machine.usable_cores} cores"
        yield f"the machine was busy with other work (load {machine.load:.1f} on {cores}); repeat when it is idle"


def _print(candidates: list[Candidate], choice: str | None, console: Console) -> None:
    rows = [
        (
            candidate.name,
            candidate.precision,
            f"{candidate.size_bytes / 1e6:.1f} MB",
            "-" if candidate.frame_ms is None else f"{candidate.frame_ms:.1f} ms",
            "-" if candidate.ratio is None else f"{candidate.ratio:.2f}",
            "-" if candidate.drop is None else f"{candidate.drop:.2f}",
            "-" if candidate.parity is None else f"{candidate.parity:.1e}",
            "<- ship" if candidate.name == choice else "",
        )
        for candidate in candidates
    ]
    console.table(("artefact", "precision", "size", "frame", "ratio", "AP drop", "from PyTorch", ""), rows)


def _plain(candidate: Candidate) -> dict[str, Any]:
    return asdict(candidate)
