"""The composition root: a verb is the name of a module, imported when it is chosen.

Every ``command_<verb>`` module has ``add_arguments(parser)`` and ``run(args, console) -> CommandResult``, and imports
what is heavy inside ``run``. Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 a gate failed, 4 an optional
dependency is missing, 130 interrupted, 141 the reader of our output has gone.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from solov2_edge import __version__
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.files import is_full

__all__ = ["VERBS", "main"]

PROGRAM = "solov2-edge"

# verb -> (module, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "quickstart": (
        "solov2_edge.command_quickstart",
        "the main job on the bundled model, ending in a report to look at",
    ),
    "models": ("solov2_edge.command_models", "published and bundled checkpoints: AP, licence, URL, hash"),
    "download": ("solov2_edge.command_download", "fetch a published checkpoint, resumable and hash-checked"),
    "inspect": ("solov2_edge.command_inspect", "what a checkpoint or an artefact is"),
    "convert": ("solov2_edge.command_convert", "checkpoint to ONNX, TFLite and Core ML, checked before it is written"),
    "sensitivity": ("solov2_edge.command_sensitivity", "what int8 costs in each layer, and where keeping float pays"),
    "verify": ("solov2_edge.command_verify", "does an artefact still compute what its checkpoint does? With a verdict"),
    "segment": ("solov2_edge.command_segment", "pictures in; overlays, COCO and LabelMe files out"),
    "eval": (
        "solov2_edge.command_eval",
        "COCO mask AP of artefacts and checkpoints, the drop with its interval, and a gate on it",
    ),
    "advise": ("solov2_edge.command_advise", "runs artefacts in turn on this machine and says which one to ship"),
    "report": ("solov2_edge.command_report", "one page about a conversion: size, AP, time, parity, provenance"),
    "bench": ("solov2_edge.command_bench", "milliseconds per stage, artefacts in turn, against instance count"),
    "browser": ("solov2_edge.command_browser", "a page that runs an artefact in the browser itself, camera included"),
    "live": ("solov2_edge.command_live", "a camera, a stream or a video into a window, a page, a video or JSON lines"),
    "doctor": ("solov2_edge.command_doctor", "what this machine can run, what holds it back, and the cure for each"),
    "train": ("solov2_edge.command_train", "train a variant on COCO, LabelMe or YOLO annotations, or check them"),
}

# Import name of a third-party package -> (extra that installs it, what it is for).
EXTRAS: dict[str, tuple[str, str]] = {
    "torch": ("train", "working with checkpoints"),
    "safetensors": ("train", "working with checkpoints"),
    "onnx": ("convert", "converting to ONNX"),
    "onnxscript": ("convert", "converting to ONNX"),
    "onnxruntime": ("onnx", "running .onnx artefacts"),
    "openvino": ("openvino", "running .onnx artefacts in OpenVINO"),
    "ncnn": ("ncnn", "running .ncnn artefacts"),
    "litert_torch": ("convert-tflite", "converting to TFLite"),
    "ai_edge_quantizer": ("convert-tflite", "converting to TFLite"),
    "ai_edge_litert": ("tflite", "running .tflite artefacts"),
    "coremltools": ("convert-coreml", "reading and writing Core ML packages"),
    "sklearn": ("convert-coreml", "palettes of Core ML weights"),
    "pycocotools": ("eval", "computing COCO mask AP"),
    "websockets": ("serve", "serving the live view as a web page"),
}

EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def _plain(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not re.fullmatch(r"[-+.0-9A-Za-z]+", text):
            raise ValueError(text)
        return kind(text)

    return read


class _Parser(argparse.ArgumentParser):
    """Turns a usage error into one sentence with a hint, instead of a usage dump; numbers are of plain digits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Python's own readers also take 1_0 for 10, and other scripts' digits.
        self.register("type", int, _plain(int))
        self.register("type", float, _plain(float))

    def error(self, message: str) -> NoReturn:
        found = re.match(r"unrecognized arguments: (\S+)", message)
        if found:
            given = found.group(1)
            message = f"unknown argument {given!r}" + _hint(given.split("=")[0], self._option_string_actions)
        raise InputError(f"{message[0].lower()}{message[1:]} (see {self.prog} --help)")


def _hint(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    parser.add_argument("--quiet", action="store_true", help="no logs and no progress bars")


def _root_parser() -> _Parser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {help_text}" for verb, (_, help_text) in VERBS.items())
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} VERB [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Light SOLOv2 checkpoints in; verified artefacts and instance masks out.",
        epilog=f"verbs:\n{verbs}\n\n`{PROGRAM} VERB --help` explains one.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_output_options(parser)
    return parser


def _run(argv: Sequence[str], console: Console) -> CommandResult:
    root = _root_parser()
    place = next((i for i, word in enumerate(argv) if not word.startswith("-")), len(argv))
    root.parse_args(argv[:place])
    if place == len(argv):
        raise InputError(f"name a verb: {', '.join(VERBS)} (see {PROGRAM} --help)")
    verb = argv[place]
    if verb not in VERBS:
        hint = _hint(verb, VERBS) or f"; expected one of {', '.join(VERBS)}"
        raise InputError(f"unknown verb {verb!r}{hint}")
    module_name, help_text = VERBS[verb]
    module: Any = importlib.import_module(module_name)
    parser = _Parser(prog=f"{PROGRAM} {verb}", description=f"{verb}: {help_text}.", allow_abbrev=False)
    for word in argv:
        if "\0" in word:
            raise InputError(f"the argument {word!r} holds a NUL, which no name does; leave it out")
    module.add_arguments(parser)
    _add_output_options(parser)
    result: CommandResult = module.run(parser.parse_args(argv[place + 1 :]), console)
    return result


def _missing(error: ModuleNotFoundError) -> SolovEdgeError | None:
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra, purpose = EXTRAS[package]
    return MissingDependencyError(package, extra, purpose)


def _fail(console: Console, message: str, exit_code: int) -> int:
    message = " ".join(message.splitlines())  # a file's name may hold line breaks
    console.emit({"error": message, "exit_code": exit_code})
    console.complain(f"{PROGRAM}: {message}")
    return exit_code


def _guarded(argv: Sequence[str], console: Console) -> int:
    """Run the verb; every way it can end becomes an exit code and at most one sentence."""
    try:
        result = _run(argv, console)
        console.emit(result.data)
        sys.stdout.flush()
        return result.exit_code
    except BrokenPipeError:
        raise
    except SolovEdgeError as error:
        return _fail(console, str(error), error.exit_code)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(console, f"{where}{error.strerror or error}; check the path and its permissions", 2)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            name = str(error.filename)
            shown = name if len(name) <= 80 else f"{name[:77]}..."
            return _fail(console, f"{shown}: {error.strerror}; name another file", 2)
        if is_full(error):
            where = f"{error.filename}: " if error.filename else ""
            cure = "free some space or give another folder, and run this again"
            return _fail(console, f"{where}the disk is full ({error.strerror}); {cure}", 1)
        return _fail(console, f"the system refused: {error}", 1)
    except MemoryError:
        return _fail(console, "out of memory: use a smaller input size or fewer pictures at once", 1)
    except ModuleNotFoundError as error:
        missing = _missing(error)
        return _fail(console, str(missing), missing.exit_code) if missing else _bug(console, error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never sees a bare traceback
        return _bug(console, error)


def _bug(console: Console, error: Exception) -> int:
    if os.environ.get("SOLOV2_EDGE_DEBUG") == "1":
        traceback.print_exception(error)
    text = " ".join(str(error).split())[:300]
    message = f"a bug in {PROGRAM}: {type(error).__name__}: {text} (SOLOV2_EDGE_DEBUG=1 shows where; please report it)"
    return _fail(console, message, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``solov2-edge`` and return its exit code.

    Args:
        argv: the words after the program's name; default: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(json_mode="--json" in words, quiet="--quiet" in words)
    try:
        return _guarded(words, console)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except SystemExit as stop:  # argparse: --help and --version
        return stop.code if isinstance(stop.code, int) else 0
