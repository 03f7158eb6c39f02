"""Facts of the machine a figure was measured on: processor, clocks, memory, system, versions.

Read from ``/proc`` and ``/sys`` where they exist; elsewhere what Python knows, and None for what nobody says. The
parsers take text and the readers take the root of a file system, so that recorded machines can be read as well.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Clocks",
    "CpuInfo",
    "Machine",
    "parse_cpu_features",
    "parse_cpu_max",
    "parse_cpuinfo",
    "parse_meminfo",
    "parse_os_release",
    "read_clocks",
    "read_machine",
    "read_text",
    "thread_variables",
    "versions",
]

KHZ_PER_MHZ = 1000  # /sys gives clocks in kHz
# Everything whose version can move a time, by the name it is installed under.
DISTRIBUTIONS = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "ai-edge-litert",
    "tflite-runtime",
    "tensorflow",
    "coremltools",
    "ncnn",
    "openvino",
    "torch",
)
# Environment variables that limit the threads of BLAS, OpenMP and OpenCV.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """What ``/proc/cpuinfo`` says.

    Attributes:
        model: the processor's name; empty where the file has none (most ARM boards).
        mhz: the present clock of each core in MHz; empty where the file has none.
    """

    model: str
    mhz: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clocks of the processor in MHz; None where the system does not say.

    Attributes:
        governor: how the kernel chooses the clock, for example ``"performance"`` or ``"powersave"``.
        now_mhz: the fastest core's clock at this moment.
        max_mhz: the most the governor may choose.
    """

    governor: str | None
    now_mhz: float | None
    max_mhz: float | None


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    Attributes:
        cpu: name of the processor.
        board: name of the board from the device tree, or None.
        architecture: for example ``"x86_64"``.
        cores: logical cores of the machine.
        usable_cores: those this process may run on.
        cpu_quota: cores' worth of time the container allows, or None without a limit.
        memory_bytes: physical memory, or None.
        system: operating system and kernel.
        distribution: for example ``"Debian GNU/Linux 12 (bookworm)"``, or None.
        clocks: at the time of reading.
        load: mean number of running processes over the last minute, or None.
    """

    cpu: str
    board: str | None
    architecture: str
    cores: int
    usable_cores: int
    cpu_quota: float | None
    memory_bytes: int | None
    system: str
    distribution: str | None
    clocks: Clocks
    load: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def parse_cpuinfo(text: str) -> CpuInfo:
    """Read the text of ``/proc/cpuinfo``: x86 says ``model name``, some ARM kernels ``Hardware`` or ``Processor``."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            fields.setdefault(key.strip(), []).append(value.strip())
    names = [fields[key][0] for key in ("model name", "Hardware", "Processor", "cpu model") if key in fields]
    return CpuInfo(names[0] if names else "", tuple(float(value) for value in fields.get("cpu MHz", [])))


def parse_cpu_features(text: str) -> frozenset[str]:
    """Return what the processor can do, by the names in ``/proc/cpuinfo``: x86 says ``flags``, ARM ``Features``."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def parse_meminfo(text: str) -> int | None:
    """Return the bytes of physical memory from the text of ``/proc/meminfo``."""
    found = re.search(r"^MemTotal:\s*(\d+)\s*kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def parse_os_release(text: str) -> str | None:
    """Return the distribution's name from the text of ``/etc/os-release``."""
    found = re.search(r'^PRETTY_NAME=(["\']?)(.+?)\1\s*$', text, re.MULTILINE)
    return found.group(2) if found else None


def parse_cpu_max(text: str) -> float | None:
    """Return the cores' worth of time a control group allows, from the text of its ``cpu.max``."""
    found = re.match(r"(\d+)\s+(\d+)", text)
    return int(found.group(1)) / int(found.group(2)) if found and int(found.group(2)) else None


def read_clocks(root: Path = Path("/")) -> Clocks:
    """Read governor and clocks; a virtual machine has no governor, and its clock stands in ``/proc/cpuinfo``."""
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    governors = {text for text in (read_text(policy / "scaling_governor") for policy in policies) if text}
    # Cores of one board may differ (big and little): the fastest is what a single thread gets.
    now = _largest(read_text(policy / "scaling_cur_freq") for policy in policies)
    most = _largest(read_text(policy / "scaling_max_freq") for policy in policies)
    if now is None:
        now = max(parse_cpuinfo(read_text(root / "proc/cpuinfo")).mhz, default=None)
    return Clocks(", ".join(sorted(governors)) or None, now, most)


def read_machine(root: Path = Path("/")) -> Machine:
    """Read everything; nothing here raises for a file that is missing."""
    board = read_text(root / "proc/device-tree/model").strip("\0 ") or None
    cpu = parse_cpuinfo(read_text(root / "proc/cpuinfo")).model or _sysctl("machdep.cpu.brand_string")
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = os.cpu_count() or 1
    return Machine(
        cpu=cpu or platform.processor() or platform.machine() or "unknown",
        board=board,
        architecture=platform.machine(),
        cores=cores,
        usable_cores=len(affinity(0)) if affinity else cores,
        cpu_quota=parse_cpu_max(read_text(root / "sys/fs/cgroup/cpu.max")),
        memory_bytes=parse_meminfo(read_text(root / "proc/meminfo")) or _memory_of_posix(),
        system=f"{platform.system()} {platform.release()}",
        distribution=parse_os_release(read_text(root / "etc/os-release")),
        clocks=read_clocks(root),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def versions() -> dict[str, str]:
    """Return what is installed that can move a time: Python, numpy, OpenCV and the engines; none is imported."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def thread_variables() -> dict[str, str]:
    """Return the environment variables that are set and limit threads."""
    return {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}


def read_text(path: Path) -> str:
    """Return what a small file holds without the white space around it, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _largest(texts: Any) -> float | None:
    return max((int(text) / KHZ_PER_MHZ for text in texts if text.isdigit()), default=None)


def _memory_of_posix() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _sysctl(name: str) -> str:
    """Return a value of macOS's sysctl, empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    import subprocess

    done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False, timeout=5)
    return done.stdout.strip()
