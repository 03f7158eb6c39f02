"""What a small board says of itself below the root of a file system: cores, temperatures, throttling, packages.

Formats: the kernel's sysfs (``thermal_zone``, ``cooling_device``, ``hwmon``), Debian's ``/var/lib/dpkg/status``, the
Raspberry Pi's ``get_throttled``. What a file does not say is empty or None here; a missing file raises nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.runtime.machine import parse_cpuinfo, read_text
from solov2_edge.runtime.threads import parse_cpu_list

__all__ = [
    "Cores",
    "Zone",
    "cpu_name",
    "find_command",
    "parse_packages",
    "read_cores",
    "read_packages",
    "read_throttling",
    "read_zones",
]

# (implementer, part) of ARM processors in the boards this runs on; ARM kernels give no name.
ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd83"): "Neoverse V3AE",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}
# Where commands of an administrator lie, which a user's PATH may leave out.
SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
# Cooling devices that slow something down, unlike fans.
SLOWS_DOWN = re.compile(r"throttle|^(thermal-)?(cpufreq|devfreq)-|^Processor$")
# Bits of the Raspberry Pi's get_throttled: now, and since the start 16 bits higher.
PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_START = 16


@dataclass(frozen=True, slots=True)
class Zone:
    """One temperature.

    Attributes:
        name: of the sensor, for example ``"cpu-thermal"``.
        celsius: now.
        limit: the lowest temperature the system slows down at, or None.
    """

    name: str
    celsius: float
    limit: float | None


@dataclass(frozen=True, slots=True)
class Cores:
    """Logical cores.

    Attributes:
        present: all that are built in.
        online: those switched on; a power mode may leave some out.
        allowed: those this process may use.
    """

    present: int
    online: int
    allowed: int


def cpu_name(root: Path) -> str:
    """Return the processor's name, on ARM those of its kinds of cores; empty where nobody says."""
    text = read_text(root / "proc/cpuinfo")
    makers = re.findall(r"^CPU implementer\s*:\s*(\w+)", text, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\w+)", text, re.MULTILINE)
    kinds = dict.fromkeys(ARM_CORES.get(key, "") for key in zip(makers, parts, strict=False))
    return " + ".join(filter(None, kinds)) or parse_cpuinfo(text).model


def read_cores(root: Path) -> Cores | None:
    """Return how many cores there are, or None where the system does not say."""
    folder = root / "sys/devices/system/cpu"
    online = parse_cpu_list(read_text(folder / "online"))
    if not online:
        return None
    present = parse_cpu_list(read_text(folder / "present")) or online
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)", read_text(root / "proc/self/status"), re.MULTILINE)
    allowed = parse_cpu_list(found.group(1)) & online if found else online
    return Cores(len(present), len(online), len(allowed))


def read_zones(root: Path) -> tuple[Zone, ...]:
    """Return the temperatures, hottest first; sensors that are off are left out."""
    zones = []
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        milli, name = read_text(folder / "temp"), read_text(folder / "type") or folder.name
        # A sensor that is off gives an error, nothing, or a temperature of 0 or far below; a Jetson's PMIC-Die is
        # always 100 degrees hot.
        if re.fullmatch(r"\d+", milli) and int(milli) > 0 and not name.startswith("PMIC"):
            limits = (_limit(path) for path in folder.glob("trip_point_*_type"))
            lowest = min((limit for limit in limits if limit is not None), default=None)
            zones.append(Zone(name, int(milli) / 1000, lowest))
    return tuple(sorted(zones, key=lambda zone: -zone.celsius))


def _limit(kind: Path) -> float | None:
    """Return the temperature of a trip point that slows down, from the path of its ``_type``; None for others."""
    if read_text(kind) not in ("passive", "hot"):
        return None
    milli = read_text(kind.with_name(kind.name.replace("_type", "_temp")))
    return int(milli) / 1000 if re.fullmatch(r"\d+", milli) and int(milli) > 0 else None


def read_throttling(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what slows the board down now, and what did since it was started."""
    now = []
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        name, state = read_text(folder / "type"), read_text(folder / "cur_state")
        if SLOWS_DOWN.search(name) and state.isdigit() and int(state) > 0:
            now.append(name)
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(folder / "name") == "rpi_volt" and read_text(folder / "in0_lcrit_alarm") == "1":
            now.append("under-voltage")
    since = []
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        bits = int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]+", text := read_text(path)) else 0
        now += [name for bit, name in PI_BITS.items() if bits >> bit & 1]
        since += [name for bit, name in PI_BITS.items() if bits >> bit + SINCE_START & 1]
    return tuple(dict.fromkeys(now)), tuple(name for name in dict.fromkeys(since) if name not in now)


def parse_packages(text: str) -> dict[str, str]:
    """Return name -> version of every installed package, from the text of ``/var/lib/dpkg/status``."""
    found = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.+)$", entry, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= set(fields):
            found[fields["Package"]] = fields["Version"]
    return found


def read_packages(root: Path) -> dict[str, str]:
    """Return name -> version of every installed Debian package; empty on other systems."""
    return parse_packages(read_text(root / "var/lib/dpkg/status"))


def find_command(root: Path, name: str) -> Path | None:
    """Return where a command lies below ``root``, looking through PATH and an administrator's folders."""
    if root == Path("/") and (here := shutil.which(name)):
        return Path(here)
    folders = dict.fromkeys([*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_FOLDERS])
    below = os.pathsep.join(str(root / folder.lstrip("/")) for folder in folders if folder.startswith("/"))
    found = shutil.which(name, path=below)
    return Path(found) if found else None
