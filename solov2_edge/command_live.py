"""``solov2-edge live``: a camera, a stream or a video through an artefact, into a window, a page, a video or lines."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import require_positive
from solov2_edge.command_segment import add_engine_argument, note_interpreter, segmenter_options
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, require
from solov2_edge.opening import is_checkpoint, open_artefact

if TYPE_CHECKING:
    from collections.abc import Callable

    from solov2_edge.demos.live_controls import Controls
    from solov2_edge.demos.live_view import View
    from solov2_edge.runtime.segmenter import Segmenter
    from solov2_edge.runtime.source import Source

__all__ = ["add_arguments", "run"]

SHOWN_SCORE = 0.3  # as on the overlays of `segment`
MODES = ("live", "video", "image")
HOST = "127.0.0.1"
STDOUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", nargs="?", type=Path, metavar="ARTEFACT", help="artefact (default: the bundled one)")
    parser.add_argument(
        "--source", default="0", metavar="S",
        help="camera number, /dev/video0, csi://0, rtsp:// or http:// address, video, picture, folder, pattern, "
        "or test:// (default: camera %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mode", choices=MODES,
        help="live: the newest frame, others dropped; video: every frame; image: one by one, without tracks "
        "(default: live for cameras and streams, video for files, image for pictures)",
    )  # fmt: skip
    parser.add_argument("--width", type=int, metavar="W", help="of a camera's frames, to ask for")
    parser.add_argument("--height", type=int, metavar="H", help="of a camera's frames, to ask for")
    parser.add_argument("--fps", type=float, metavar="N", help="frames per second to ask a camera for")
    parser.add_argument(
        "--reopen", type=float, metavar="S", help="look for a vanished camera for so many seconds (default: for ever)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="end after N frames")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="show these classes only")
    parser.add_argument(
        "--score-threshold", type=float, default=SHOWN_SCORE, metavar="P",
        help="least score of an instance that is shown, 0..1 (%(default)s); keys + and - change it",
    )  # fmt: skip
    parser.add_argument("--headless", action="store_true", help="no window")
    parser.add_argument("--serve", type=int, metavar="PORT", help="the live view as a web page on this port")
    parser.add_argument("--host", help=f"address the page is served on (default: {HOST}, this machine alone)")
    parser.add_argument("--token", metavar="TEXT", help="what the page's address must carry (default: made up)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the overlays to a video, .mp4 or .mkv")
    parser.add_argument(
        "--json-lines", nargs="?", const=STDOUT, metavar="FILE",
        help="a line of JSON per frame, to stdout or a file: instances with score, box, RLE mask and track",
    )  # fmt: skip
    parser.add_argument(
        "--save-to", type=Path, default=Path(), metavar="DIR", help="folder for what keys s and r save (default: here)"
    )
    parser.add_argument("--mask-threshold", type=float, metavar="P", help="least mask probability, 0..1")
    parser.add_argument("--max-instances", type=int, metavar="N", help="most instances per frame")
    parser.add_argument("--nms-kernel", choices=("gaussian", "linear"), help="decay of Matrix NMS")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the network")
    add_engine_argument(parser)
    parser.add_argument("--providers", nargs="+", metavar="NAME", help="as for segment")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Show frames until the source ends or somebody ends it; Ctrl-C gives the summary too, with exit code 130."""
    _check(args, console)
    from solov2_edge.demos.live import run_live
    from solov2_edge.demos.live_controls import Controls, Settings
    from solov2_edge.demos.live_signals import EndSignals
    from solov2_edge.runtime.source import Mode
    from solov2_edge.runtime.stream import open_source

    settings = Settings(
        score_threshold=args.score_threshold,
        classes=None if args.classes is None else frozenset(args.classes),
        recording=args.record is not None,
    )
    with ExitStack() as stack:
        model, segment = _open(args, console)
        stack.callback(segment.close)
        controls = Controls(segment.spec.class_names, settings)
        asked = {name: getattr(args, name) for name in ("width", "height", "fps", "reopen")}
        given = {name: value for name, value in asked.items() if value is not None}
        source = stack.enter_context(open_source(args.source, **given))
        mode = source.mode if args.mode is None else Mode(args.mode)
        with EndSignals() as signals:
            views = Views(args, source, controls, console)
            console.log(f"{source.description}, {mode.value} mode; Ctrl-C ends it")
            summary = run_live(segment, source, views.all, controls, mode=mode, frames=args.frames, signals=signals)
    data = {"artefact": model, "source": source.description, "mode": mode.value, **summary, **views.left()}
    # What goes through a pipe as lines stays lines.
    tell = console.log if args.json_lines == STDOUT else console.say
    tell(_sentence(data))
    return CommandResult(data, 128 + signals.received if signals.received else 0)


def _check(args: argparse.Namespace, console: Console) -> None:
    """Refuse what cannot work, before anything is opened."""
    for option in ("frames", "max_instances", "threads"):
        require_positive("--" + option.replace("_", "-"), getattr(args, option))
    if args.model is not None and is_checkpoint(args.model):
        raise InputError(
            f"{args.model} is a checkpoint; live views run artefacts: "
            f"solov2-edge convert {args.model} --to onnx -o DIR makes one"
        )
    require(
        not (console.json_mode and args.json_lines == STDOUT),
        "--json and --json-lines both want stdout; give --json-lines a file",
    )
    for option in ("host", "token"):
        require(args.serve is not None or getattr(args, option) is None, f"--{option} belongs to --serve PORT")
    require(args.save_to.is_dir(), f"--save-to {args.save_to} must be a folder that exists")
    if args.record is not None:
        from solov2_edge.demos.live_video import check_video_path

        check_video_path(args.record)
    if not args.headless and args.serve is None:
        from solov2_edge.demos.highgui import require_gui

        require_gui()


def _open(args: argparse.Namespace, console: Console) -> tuple[Path, Segmenter]:
    model: Path | None = args.model
    if model is None:
        from solov2_edge.bundled import bundle

        bundled = bundle()
        model = bundled.artefact
        console.log(f"the bundled model, which finds {bundled.things}; name an artefact for anything else")
    # The score threshold of a live view moves, and is that of the instances: keep_threshold in the decoder's words.
    options = segmenter_options(argparse.Namespace(**{**vars(args), "score_threshold": None, "keep_threshold": None}))
    segment = open_artefact(model, **options)
    note_interpreter(segment, console)
    return model, segment


class Views:
    """Everybody who is shown the frames.

    Attributes:
        all: in the order they are shown them: programs before people.
    """

    def __init__(self, args: argparse.Namespace, source: Source, controls: Controls, console: Console) -> None:
        from solov2_edge.demos.live_journal import Journal
        from solov2_edge.demos.live_recorder import Recorder
        from solov2_edge.demos.live_snapshot import run_name
        from solov2_edge.runtime.source import Mode

        self.all: list[View] = []
        self._url: str | None = None
        self._lines: Path | None = None
        name = run_name()
        say: Callable[[str], None] = console.log
        try:
            if args.json_lines is not None:
                from solov2_edge.demos.live_lines import JsonLines

                self._lines = None if args.json_lines == STDOUT else Path(args.json_lines)
                self.all.append(JsonLines(self._lines))
            path = args.record or args.save_to / f"{name}.mp4"
            live = source.mode is Mode.LIVE
            self._recorder = Recorder(path, source.fps, lambda text: say(text), live=live)
            self.all.append(self._recorder)
            if args.serve is not None:
                from solov2_edge.demos.serve import ServeView

                page = ServeView(args.host or HOST, args.serve, controls, args.token, title=source.description)
                self._url = page.url
                self.all.append(page)
                # The address holds the token, without which the page is of no use: said even if quiet.
                (console.log if console.json_mode else console.complain)(f"open {page.url} in a browser")
            elif not args.headless:
                from solov2_edge.demos.highgui import OpenCvGui
                from solov2_edge.demos.live_window import Window

                window = Window(OpenCvGui(f"solov2-edge: {source.description}"), controls, args.save_to, name)
                self.all.append(window)
                say = window.say
            self.all.append(Journal(console.log, figures=args.headless or args.serve is not None))
        except BaseException:
            from solov2_edge.demos.live_view import close_all

            close_all(self.all)
            raise

    def left(self) -> dict[str, Any]:
        """Return what the run leaves behind, JSON-ready."""
        return {"recordings": self._recorder.files, "json_lines": self._lines, "url": self._url}


def _sentence(data: dict[str, Any]) -> str:
    latency = data["latency_ms"]
    words = [f"{data['frames']} frames"]
    if data["fps"] is not None:
        words.append(f"{data['fps']:.1f} per second")
    words.append(f"latency {latency['p50']:.0f} ms (95 %: {latency['p95']:.0f} ms)")
    words += [f"{data[name]} {name}" for name in ("dropped", "corrupt", "reopened") if data[name]]
    words += [f"recorded {path}" for path in data["recordings"]]
    return ", ".join(words)
