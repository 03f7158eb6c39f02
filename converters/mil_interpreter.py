"""Core ML packages on Linux: the ML Program as saved on disk, executed op by op in PyTorch.

It sees the program, every weight and every rounding to float16; it does not see Apple's runtime, whose kernels and
compute units may round and accumulate otherwise. docs/coreml-interpreter.md lists what it can and cannot show.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from solov2_edge.converters.mil_execute import execute
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.mil_program import read_program
from solov2_edge.converters.mil_session import ENGINE, MilSession, feeds_of
from solov2_edge.errors import require
from solov2_edge.manifest import OUTPUT_NAMES, InputContract
from solov2_edge.runtime.contract import check_batch
from solov2_edge.runtime.loading import decode_options, segmenter_of
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import RawOutputs

__all__ = ["ENGINE", "MilSession", "load", "runner"]

ENGINES = (None, "interpreter")


def runner(path: str | os.PathLike[str], contract: InputContract) -> Callable[[NDArray[Any]], RawOutputs]:
    """Return a function from a batch to raw outputs for a package that need not have a manifest yet.

    Args:
        path: the .mlpackage folder.
        contract: what its input takes.

    Raises:
        InputError: a damaged package, or one that uses what the interpreter does not know.
    """
    package = read_package(path)
    program = read_program(package.model, package.folder)
    missing = sorted(set(OUTPUT_NAMES) - set(program.outputs))
    require(not missing, f"{path} lacks the outputs {', '.join(missing)}; convert the checkpoint again")

    def run(batch: NDArray[Any]) -> RawOutputs:
        check_batch(batch, contract)
        outputs = execute(program, feeds_of(batch, contract))
        return RawOutputs(*(outputs[name].contiguous().numpy() for name in OUTPUT_NAMES))

    return run


def load(
    path: str | os.PathLike[str],
    *,
    engine: str | None = None,
    threads: int | None = None,
    providers: str | Sequence[str] | None = None,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Segmenter:
    """Open a Core ML package for segmenting frames, with the options of ``solov2_edge.runtime.load``.

    Args:
        path: an .mlpackage made by ``solov2-edge convert``.
        engine: None or ``"interpreter"``.
        threads: PyTorch's threads while it runs, 1..1024; None leaves them as they are.
        providers: None or ``"interpreter"``.
        provider_options: must be empty.
        **options: fields of ``DecodeOptions``, for example ``score_threshold=0.3``.

    Returns:
        A Segmenter; its ``engine`` says that this is not Apple's runtime, and its timings mean nothing.

    Raises:
        InputError: no such package, a damaged one, one that uses what the interpreter does not know, or an unknown
            or impossible option.
        MissingDependencyError: coremltools is not installed.
    """
    decode_options(options)  # before a program is read
    require(engine in ENGINES, f".mlpackage artefacts run here in engine 'interpreter', got engine={engine!r}")
    session = MilSession(path, threads=threads, providers=providers, provider_options=provider_options)
    return segmenter_of(session, options)
