"""What the quickstart's report says of one file: size, AP on the bundled pictures, speed, parity with PyTorch."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from solov2_edge.bundled import Bundle
from solov2_edge.manifest import size_of
from solov2_edge.opening import INTERPRETED, AnySegmenter, is_checkpoint, open_segmenter

if TYPE_CHECKING:
    from solov2_edge.demos.report_data import ArtefactFacts

__all__ = ["measure"]


def measure(path: Path, files: Bundle, *, input_size: tuple[int, int], verify_it: bool) -> ArtefactFacts:
    """Evaluate, time and, if asked, verify one checkpoint or artefact on the bundled pictures.

    Args:
        path: checkpoint or artefact.
        files: the bundle whose pictures and checkpoint are used.
        input_size: (H, W) of the artefacts; a checkpoint runs at the same size, so that their APs compare.
        verify_it: compare it with the bundled checkpoint in PyTorch.
    """
    from solov2_edge.demos.quickstart import network_ms
    from solov2_edge.demos.report_data import ArtefactFacts

    segment = open_segmenter(path, input_size=input_size if is_checkpoint(path) else None)
    ap = ap50 = None
    if importlib.util.find_spec("pycocotools") is not None:
        from solov2_edge.runtime.evaluate import evaluate

        evaluation = evaluate(segment, files.annotations, files.pictures)
        ap, ap50 = evaluation.ap, evaluation.ap50
    first = min(files.pictures.iterdir())
    engine = _engine(segment, path)
    # An interpreted Core ML program is as slow as its interpreter, which says nothing of a phone.
    network = None if engine.startswith(INTERPRETED) else network_ms(segment, lambda: segment.timings, first)
    facts = ArtefactFacts(path.name, engine, size_of(path), ap, ap50, network)
    return _verified(facts, path, files) if verify_it else facts


def _verified(facts: ArtefactFacts, path: Path, files: Bundle) -> ArtefactFacts:
    from solov2_edge.converters.verify import verify
    from solov2_edge.demos.report_data import StageParity

    result = verify(path, files.checkpoint, files.pictures)
    # The network's outputs share one unit, the range of the stage; the verdict speaks for the other stages.
    parity = tuple(
        StageParity(stage.quantity.replace("_", " "), stage.worst, stage.bound)
        for stage in result.summary()
        if stage.stage == "network" and stage.bound is not None
    )
    matched = f"{result.matched} of {result.expected} instances matched"
    return replace(facts, parity=parity, verdict=matched if result.passed else result.verdict, passed=result.passed)


def _engine(segment: AnySegmenter, path: Path) -> str:
    if not is_checkpoint(path):
        return str(getattr(segment, "engine", "unknown engine"))
    import torch

    return f"PyTorch {torch.__version__}"
