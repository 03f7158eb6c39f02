"""What a Jetson says of itself: release, power mode, clocks of the GPU, currents, CUDA and TensorRT.

Formats: NVIDIA's Jetson Linux developer guide (``/etc/nv_tegra_release``, ``/etc/nvpmodel.conf``, ``devfreq``,
``soctherm_oc``); ``/var/lib/nvpmodel/status`` is what ``nvpmodel`` leaves behind. All of it is read without root and
without running anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.runtime.machine import read_text

__all__ = [
    "DevFreq",
    "PowerMode",
    "clocks_pinned",
    "cuda_version",
    "current_mode",
    "fastest_mode",
    "is_jetson",
    "jetpack_of",
    "overcurrents",
    "parse_l4t",
    "parse_power_modes",
    "read_gpu",
    "tensorrt_version",
]

HZ_PER_MHZ = 1_000_000  # devfreq gives Hz
# Jetson Linux -> JetPack (NVIDIA's archive); what is not listed is named by its major number only.
JETPACK = {
    "32.7": "4.6",
    "35.1": "5.0.2",
    "35.2": "5.1",
    "35.3": "5.1.1",
    "35.4": "5.1.2",
    "35.5": "5.1.3",
    "35.6": "5.1.4",
    "36.2": "6.0 DP",
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}
JETPACK_MAJOR = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}
GPU_NAMES = re.compile(r"gpu|gv11b|gp10b|ga10b|gm20b")
OVERCURRENTS = {"oc1": "under-voltage", "oc2": "mean over-current", "oc3": "instantaneous over-current"}


@dataclass(frozen=True, slots=True)
class PowerMode:
    """A mode of ``nvpmodel``: its number and its name, for example 2 and ``"MAXN_SUPER"``."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class DevFreq:
    """Clocks of the GPU in MHz: now, and the least and most its governor may choose."""

    now_mhz: float
    min_mhz: float
    max_mhz: float


def is_jetson(root: Path) -> bool:
    """Say whether this is NVIDIA's Jetson Linux, or a container of its that may see the board."""
    compatible = read_text(root / "proc/device-tree/compatible")
    return (root / "etc/nv_tegra_release").is_file() or "nvidia,tegra" in compatible


def parse_l4t(text: str) -> str | None:
    """Return the release of Jetson Linux, for example ``"36.4.3"``, from the text of ``/etc/nv_tegra_release``."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def jetpack_of(l4t: str) -> str | None:
    """Return the JetPack that a release of Jetson Linux belongs to, as exactly as is known."""
    parts = l4t.split(".")
    exact = (JETPACK.get(".".join(parts[:count])) for count in (3, 2))
    return next(filter(None, exact), JETPACK_MAJOR.get(parts[0]))


def parse_power_modes(text: str) -> tuple[tuple[PowerMode, ...], int | None]:
    """Return the modes and the number of the one a board starts with, from the text of ``/etc/nvpmodel.conf``."""
    modes = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", text, re.MULTILINE)
    default = re.search(r"^<\s*PM_CONFIG\s+DEFAULT=(\d+)", text, re.MULTILINE)
    return tuple(PowerMode(int(number), name) for number, name in modes), int(default.group(1)) if default else None


def current_mode(root: Path) -> tuple[PowerMode | None, tuple[PowerMode, ...]]:
    """Return the power mode in force, or None where nobody says, and all there are."""
    modes, default = parse_power_modes(read_text(root / "etc/nvpmodel.conf"))
    found = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    number = int(found.group(1)) if found else default  # nothing was ever chosen
    return next((mode for mode in modes if mode.number == number), None), modes


def fastest_mode(modes: Sequence[PowerMode]) -> PowerMode:
    """Return the mode without limits, else that of most watts, then of most cores, as their names say."""

    def rank(mode: PowerMode) -> tuple[bool, bool, int, int]:
        watts = re.search(r"(\d+)W", mode.name)
        cores = re.search(r"(\d+)CORE", mode.name)
        return (
            "SUPER" in mode.name,
            mode.name.startswith("MAXN"),
            int(watts.group(1)) if watts else 0,
            int(cores.group(1)) if cores else 0,
        )

    return max(modes, key=rank)


def read_gpu(root: Path) -> DevFreq | None:
    """Return the clocks of the integrated GPU, or None where the system shows none."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        clocks = [read_text(folder / name) for name in ("cur_freq", "min_freq", "max_freq")]
        if GPU_NAMES.search(folder.name) and all(clock.isdigit() for clock in clocks):
            return DevFreq(*(int(clock) / HZ_PER_MHZ for clock in clocks))
    return None


def clocks_pinned(root: Path) -> bool | None:
    """Say whether ``jetson_clocks`` holds CPU and GPU at their highest clocks; None where nothing tells."""
    bounds = [
        (read_text(policy / "scaling_min_freq"), read_text(policy / "scaling_max_freq"))
        for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    ]
    gpu = read_gpu(root)
    known = [least == most for least, most in bounds if least and most]
    known += [gpu.min_mhz == gpu.max_mhz] if gpu else []
    return all(known) if known else None


def overcurrents(root: Path) -> dict[str, int]:
    """Return what the supply could not give since the start: what happened -> how often it slowed the board down."""
    counts = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(folder / "name") == "soctherm_oc":
            for name, event in OVERCURRENTS.items():
                text = read_text(folder / f"{name}_event_cnt")
                if text.isdigit() and int(text):
                    counts[event] = int(text)
    return counts


def cuda_version(root: Path) -> str | None:
    """Return the version of the CUDA toolkit, or None without one."""
    text = read_text(root / "usr/local/cuda/version.json")
    try:
        return str(json.loads(text)["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def tensorrt_version(root: Path) -> str | None:
    """Return the version of TensorRT's library, or None without one."""
    found = []
    for path in (root / "usr/lib").glob("*/libnvinfer.so.*"):
        version = path.name.removeprefix("libnvinfer.so.")
        if re.fullmatch(r"[\d.]+", version):
            found.append(version)
    return max(found, key=len, default=None)
