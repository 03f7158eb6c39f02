"""``solov2-edge browser``: a page that runs an artefact in the browser itself, on pictures and the camera."""

from __future__ import annotations

import argparse
from pathlib import Path

from solov2_edge.choices import require_positive
from solov2_edge.console import CommandResult, Console
from solov2_edge.errors import InputError, require

__all__ = ["add_arguments", "run"]

PORT = 8090
MOST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "artefact", nargs="?", type=Path, metavar="ARTEFACT", help="an .onnx artefact (default: the bundled one)"
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help="of the page; 0: a free one (%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="the page begins with (default: the page chooses)")
    parser.add_argument(
        "--onnxruntime-web", type=Path, metavar="DIR",
        help="where onnxruntime-web lies (default: ./node_modules, else where --install puts it)",
    )  # fmt: skip
    parser.add_argument("--install", action="store_true", help="fetch onnxruntime-web with npm into the cache, and end")
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Serve the page until Ctrl-C."""
    from solov2_edge.demos.browser_engine import VERSION, find_engine
    from solov2_edge.demos.browser_server import BrowserServer, page_files

    if args.install:
        return _install(args, console)
    require_positive("--threads", args.threads)
    require(0 <= args.port <= MOST_PORT, f"--port must be from 0 to {MOST_PORT}, got {args.port}")
    artefact, samples = _artefact(args.artefact)
    engine = find_engine(args.onnxruntime_web)
    if engine.version != VERSION:
        console.log(f"onnxruntime-web {engine.version} is used; this page was tested with {VERSION}")
    with BrowserServer(page_files(artefact, engine, samples, threads=args.threads), args.port) as server:
        try:
            # Where --json keeps stdout for the object at the end, the address is still needed at the beginning.
            tell = console.log if console.json_mode else console.say
            tell(f"{artefact.name} runs at {server.url} (Ctrl-C ends it)")
            if args.open:
                import webbrowser

                webbrowser.open(server.url)
            server.serve()
        except KeyboardInterrupt:
            console.log("the page was closed")
    return CommandResult({"artefact": artefact, "url": server.url, "onnxruntime_web": engine.version})


def _install(args: argparse.Namespace, console: Console) -> CommandResult:
    from solov2_edge.demos.browser_engine import PACKAGE, VERSION, install_engine

    require(args.artefact is None, "--install fetches and ends; give no artefact with it")
    folder, fetched = install_engine()
    console.say(f"{PACKAGE} {VERSION} {'was fetched into' if fetched else 'is already in'} {folder}")
    return CommandResult({"folder": folder, "version": VERSION, "fetched": fetched})


def _artefact(given: Path | None) -> tuple[Path, list[Path]]:
    """Return the artefact, checked against its manifest, and the pictures that go with it."""
    from solov2_edge.bundled import bundle
    from solov2_edge.runtime.artefact import agreed_manifest, read_sidecar, require_artefact
    from solov2_edge.runtime.onnx_file import read_manifest_text
    from solov2_edge.runtime.pictures import list_pictures

    if given is None:
        bundled = bundle()
        return bundled.artefact, list_pictures(bundled.pictures)
    artefact = require_artefact(given)
    if artefact.suffix.lower() != ".onnx":
        raise InputError(f"a browser runs .onnx artefacts, got {given}; convert the checkpoint with --to onnx")
    manifest = agreed_manifest(artefact, read_sidecar(artefact), read_manifest_text(artefact))
    require(manifest.format == "onnx", f"{given} is an artefact for {manifest.format}; expected one for onnx")
    require(
        manifest.spec.plain_kernels,
        f"the page decodes 1x1 kernels on unified mask features, and {manifest.spec.name} has others; run {given} with "
        "live --serve instead",
    )
    return artefact, []
