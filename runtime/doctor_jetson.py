"""What only a Jetson has: JetPack, power modes, a GPU that shares the memory, TensorRT, CSI cameras through Argus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from solov2_edge.runtime.board import read_packages
from solov2_edge.runtime.finding import Finding, judged
from solov2_edge.runtime.jetson import (
    clocks_pinned,
    cuda_version,
    current_mode,
    fastest_mode,
    is_jetson,
    jetpack_of,
    overcurrents,
    parse_l4t,
    read_gpu,
    tensorrt_version,
)
from solov2_edge.runtime.machine import read_text

__all__ = ["jetson_findings"]

TOPIC = "jetson"
FIRST_MODERN = 36  # Jetson Linux of JetPack 6, the first with Python 3.10
INSTALL = "sudo apt update && sudo apt install nvidia-jetpack"
IN_CONTAINER = "in a container start with --runtime nvidia"


def jetson_findings(root: Path) -> Iterator[Finding]:
    """Yield findings about the Jetson whose system files lie below ``root``; none about another machine."""
    if not is_jetson(root):
        return
    packages = read_packages(root)
    yield _release(root, packages)
    yield _power_mode(root)
    yield from _clocks(root)
    yield from _currents(root)
    for name, version in (("CUDA", cuda_version(root)), ("TensorRT", tensorrt_version(root))):
        if version:
            yield Finding(TOPIC, name, "ok", version)
        else:
            yield Finding(TOPIC, name, "missing", "not found", f"{INSTALL}; {IN_CONTAINER}")
    yield _argus(root)


def _release(root: Path, packages: dict[str, str]) -> Finding:
    l4t = parse_l4t(read_text(root / "etc/nv_tegra_release"))
    l4t = l4t or packages.get("nvidia-l4t-core", "").partition("-")[0]
    jetpack = packages.get("nvidia-jetpack", "").partition("+")[0].partition("-b")[0]
    if not l4t:
        cure = f"mount it into the container: -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro; {IN_CONTAINER}"
        return Finding(TOPIC, "JetPack", "missing", "/etc/nv_tegra_release is not there", cure)
    text = f"JetPack {jetpack or jetpack_of(l4t) or 'unknown'}, Jetson Linux {l4t}"
    if int(l4t.partition(".")[0]) < FIRST_MODERN:
        return judged(
            TOPIC,
            "JetPack",
            f"{text}: its Python 3.8 is older than the 3.10 needed here",
            "JetPack 6 where the module takes it (Orin), else a Python 3.10 of its own: docs/jetson.md",
        )
    if not jetpack:
        return judged(TOPIC, "JetPack", f"{text}, without the package nvidia-jetpack", INSTALL)
    return Finding(TOPIC, "JetPack", "ok", text)


def _power_mode(root: Path) -> Finding:
    mode, modes = current_mode(root)
    if not modes:
        cure = "ask the board itself: sudo nvpmodel -q; in a container it cannot be seen"
        return Finding(TOPIC, "power mode", "missing", "/etc/nvpmodel.conf says nothing", cure)
    best = fastest_mode(modes)
    switch = f"sudo nvpmodel -m {best.number}  # some modes ask for a restart"
    if mode is None:
        return judged(TOPIC, "power mode", "unknown", f"sudo nvpmodel -q, and for the fastest {switch}")
    text = f"{mode.number} {mode.name}" + ("" if mode == best else f", the fastest is {best.number} {best.name}")
    return judged(TOPIC, "power mode", text, "" if mode == best else switch)


def _clocks(root: Path) -> Iterator[Finding]:
    gpu = read_gpu(root)
    if gpu:
        yield Finding(TOPIC, "GPU clock", "ok", f"{gpu.now_mhz:.0f} MHz now, {gpu.min_mhz:.0f} to {gpu.max_mhz:.0f}")
    pinned = clocks_pinned(root)
    if pinned is not None:
        yield judged(
            TOPIC,
            "jetson_clocks",
            "on: clocks stay at the top"
            if pinned
            else "off: clocks rise only under load, which costs the first frames",
            "" if pinned else "sudo jetson_clocks  # until the next start",
        )


def _currents(root: Path) -> Iterator[Finding]:
    counts = overcurrents(root)
    if counts:
        said = ", ".join(f"{name} {count} times" for name, count in counts.items())
        cure = "a supply (and cable) for the mode's watts, or a power mode of fewer"
        yield judged(TOPIC, "supply", f"slowed down since the start by {said}", cure)


def _argus(root: Path) -> Finding:
    plugins = list((root / "usr/lib").glob("*/gstreamer-1.0/libgstnvarguscamerasrc.so"))
    if not plugins:
        cure = f"sudo apt install nvidia-l4t-gstreamer; {IN_CONTAINER}"
        return Finding(TOPIC, "nvarguscamerasrc", "missing", "GStreamer cannot read CSI cameras (csi://0)", cure)
    if not (root / "tmp/argus_socket").exists():
        cure = "sudo systemctl restart nvargus-daemon; in a container -v /tmp/argus_socket:/tmp/argus_socket"
        return judged(TOPIC, "nvarguscamerasrc", "there, but its daemon does not answer (/tmp/argus_socket)", cure)
    return Finding(TOPIC, "nvarguscamerasrc", "ok", "CSI cameras as csi://0")
