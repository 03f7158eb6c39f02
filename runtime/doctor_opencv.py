"""Which OpenCV this Python has: headless or with a window, with GStreamer or not, and whether two share a folder."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from solov2_edge.runtime.doctor_engines import installed
from solov2_edge.runtime.finding import Finding, judged
from solov2_edge.runtime.jetson import is_jetson

__all__ = ["build_facts", "opencv_findings"]

TOPIC = "OpenCV"
# All of them install the one folder `cv2`; those with a window first.
BUILDS = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
OWN_BUILD = (
    "pip uninstall -y opencv-python opencv-python-headless && sudo apt install nvidia-opencv, in a venv made with "
    "--system-site-packages (docs/jetson.md)"
)


def build_facts(text: str) -> dict[str, str]:
    """Return what OpenCV was built with, from ``cv2.getBuildInformation()``: ``GUI``, ``GStreamer``, ``FFMPEG``.

    Returns:
        Name -> ``"NO"``, ``"NONE"``, ``"YES (1.20.3)"``, ``"QT5"`` and the like; names that are not there are left
        out. Some builds put the window's toolkit on a line of its own, below an empty ``GUI``.
    """
    facts = dict(re.findall(r"^ +(GUI|GStreamer|FFMPEG): *(.*?) *$", text, re.MULTILINE))
    if facts.get("GUI") == "":
        toolkits = re.findall(r"^ +(QT\d?|GTK\+?|Win32 UI|Cocoa|WAYLAND|Wayland): +YES", text, re.MULTILINE)
        facts["GUI"] = toolkits[0] if toolkits else "NONE"
    return facts


def opencv_findings(
    root: Path, environment: Mapping[str, str] = os.environ, build: str | None = None
) -> Iterator[Finding]:
    """Yield findings about OpenCV, its window and its GStreamer.

    Args:
        root: where the system's files lie.
        environment: tells whether there is a screen.
        build: what ``cv2.getBuildInformation()`` says; default: of the OpenCV that is imported.
    """
    builds = {name: version for name in BUILDS if (version := installed(name))}
    told = " and ".join(f"{name} {version}" for name, version in builds.items())
    yield Finding(TOPIC, "NumPy", "ok", np.__version__)
    if len(builds) > 1:
        keep = next(iter(builds))
        text = f"{told} own the same folder `cv2`: the one installed last is there, and removing either breaks both"
        yield judged(TOPIC, "OpenCV", text, f"pip uninstall -y {' '.join(builds)} && pip install --no-deps {keep}")
    else:
        yield Finding(TOPIC, "OpenCV", "ok", told or f"{cv2.__version__} of the system ({Path(cv2.__file__).parent})")
    facts = build_facts(cv2.getBuildInformation() if build is None else build)
    yield _window(facts.get("GUI", "NONE"), environment, builds)
    yield _gstreamer(facts.get("GStreamer", "NO"), is_jetson(root))


def _window(toolkit: str, environment: Mapping[str, str], builds: Mapping[str, str]) -> Finding:
    if toolkit == "NONE":
        cure = f"pip uninstall -y {' '.join(builds) or 'opencv-python-headless'} && pip install --no-deps opencv-python"
        cure += "  # on a desktop; else solov2-edge live --serve 8080"
        return judged(TOPIC, "window", "none: this OpenCV is headless", cure)
    screen = platform.system() != "Linux" or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    cure = "" if screen else "solov2-edge live --serve 8080, or set DISPLAY where there is a screen"
    return judged(
        TOPIC, "window", toolkit if screen else f"{toolkit}, but there is no screen (DISPLAY is not set)", cure
    )


def _gstreamer(said: str, jetson: bool) -> Finding:
    if said.startswith("YES"):
        return Finding(TOPIC, "GStreamer", "ok", f"in OpenCV{said.removeprefix('YES')}")
    text = "not in this OpenCV: csi:// goes through a gst-launch-1.0 beside it"
    return judged(TOPIC, "GStreamer", text, OWN_BUILD if jetson else "")
