"""Cameras and what reads them: device files, their group, GStreamer's tools."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from solov2_edge.runtime.board import find_command
from solov2_edge.runtime.finding import Finding, judged
from solov2_edge.runtime.machine import read_text

__all__ = ["camera_findings"]

TOPIC = "cameras"
GROUP = "video"  # whom Debian, Ubuntu, Fedora and the Raspberry Pi's system give the device files to
SENSOR = "vi-output"  # of a CSI camera on a Jetson
# Device files of video codecs and image processors, which are no cameras.
NO_CAMERAS = re.compile(r"pispbe|rpi-hevc|bcm2835-(codec|isp)|rpivid|codec|nvhost|-dec\b")


def camera_findings(root: Path, access: Callable[[Path, int], bool] = os.access) -> Iterator[Finding]:
    """Yield findings about cameras, one for each.

    Args:
        root: where the system's files lie.
        access: as ``os.access``, which knows nothing of recorded device files.
    """
    if root == Path("/") and platform.system() != "Linux":
        yield Finding(TOPIC, "cameras", "ok", "by number, as --source 0; this system does not list them as files")
        return
    cameras = [path for path in _devices(root) if not NO_CAMERAS.search(_name(root, path))]
    for path in cameras:
        device, name = f"/dev/{path.name}", _name(root, path)
        if name.startswith(SENSOR):
            # Its file gives what the sensor measures, which is no picture before the image processor made one of it.
            yield Finding(TOPIC, device, "ok", f"{name}, as --source csi://0 (or the number of its connector)")
        elif access(path, os.R_OK | os.W_OK):
            yield Finding(TOPIC, device, "ok", f"{name}, as --source {path.name.removeprefix('video')}")
        else:
            cure = f"sudo usermod -aG {_group(root, path)} $USER, then log in again"
            yield Finding(TOPIC, device, "missing", f"{name}, which you may not read", cure)
    if not cameras:
        cure = "plug one in, in a container add --device /dev/video0; files, streams and test:// need none"
        yield Finding(TOPIC, "/dev/video*", "missing", "no camera", cure)
    yield _gstreamer(root)


def _devices(root: Path) -> list[Path]:
    """Return the device files that give pictures, in order; a webcam has more of them, for what it says of itself."""
    found = []
    for path in (root / "dev").glob("video*"):
        number = path.name.removeprefix("video")
        if number.isdigit() and read_text(root / "sys/class/video4linux" / path.name / "index") in ("", "0"):
            found.append((int(number), path))
    return [path for _, path in sorted(found)]


def _name(root: Path, device: Path) -> str:
    return read_text(root / "sys/class/video4linux" / device.name / "name") or "camera"


def _group(root: Path, device: Path) -> str:
    """Return the name of the group a device file belongs to."""
    try:
        number = device.stat().st_gid
    except OSError:
        return GROUP
    found = re.search(rf"^([^:\n]+):[^:\n]*:{number}:", read_text(root / "etc/group"), re.MULTILINE)
    return found.group(1) if found and number else GROUP


def _gstreamer(root: Path) -> Finding:
    command = find_command(root, "gst-launch-1.0")
    if command:
        return judged(TOPIC, "gst-launch-1.0", f"/{command.relative_to(root)}")
    cure = "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
    return Finding(TOPIC, "gst-launch-1.0", "missing", "csi:// needs it, or an OpenCV with GStreamer", cure)
