"""What of the machine decides speed and steadiness: processor, cores, memory, clocks, temperatures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from solov2_edge.runtime.board import cpu_name, read_cores, read_throttling, read_zones
from solov2_edge.runtime.finding import Finding, judged
from solov2_edge.runtime.jetson import is_jetson
from solov2_edge.runtime.machine import parse_cpu_features, read_clocks, read_machine, read_text, thread_variables

__all__ = ["machine_findings"]

TOPIC = "machine"
MIB = 1 << 20
LITTLE_MEMORY = 512  # MiB free; a network and its frames take about half of that
SMALL_BOARD = 8 << 10  # MiB; a machine with less should have swap where engines are built
NEAR = 5.0  # degrees below the limit that are worth a word
# Instructions that multiply and add 8-bit integers, by the kernel's names -> ours; without one int8 does not pay.
DOT_PRODUCTS = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8",
    "amx_int8": "AMX-INT8",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
# Drivers whose governor "powersave" chooses clocks by load; under all others it stays at the lowest.
DYNAMIC_POWERSAVE = ("intel_pstate", "amd-pstate", "amd-pstate-epp")
COOLING = "a fan or a larger heat sink, or a lower power mode"
SUPPLY = "a supply (and cable) that gives what the board asks for"
SWAP_CURE = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile "
    "(and a line '/swapfile none swap sw 0 0' in /etc/fstab)"
)


def machine_findings(root: Path) -> Iterator[Finding]:
    """Yield findings about the machine whose system files lie below ``root``."""
    machine = read_machine(root)
    # Off Linux, and of the machine that runs this, Python may know what no file says.
    cpu = cpu_name(root) or (machine.cpu if root == Path("/") else "a processor without a name")
    told = [text for text in (machine.board, cpu, machine.distribution) if text]
    yield Finding(TOPIC, "board", "ok", ", ".join(told))
    yield from _integers(root)
    yield _threads(root, machine.cpu_quota, machine.usable_cores)
    yield from _memory(root)
    yield _clocks(root)
    yield from _temperature(root)


def _integers(root: Path) -> Iterator[Finding]:
    features = parse_cpu_features(read_text(root / "proc/cpuinfo"))
    if features:
        found = [name for flag, name in DOT_PRODUCTS.items() if flag in features]
        yield judged(
            TOPIC,
            "8-bit products",
            ", ".join(found) or "none: int8 files may be no faster than float here, and less exact in ONNX Runtime",
            "" if found else "compare before choosing: solov2-edge advise FP32_FILE INT8_FILE",
        )


def _threads(root: Path, quota: float | None, usable: int) -> Finding:
    cores = read_cores(root)
    allowed = cores.allowed if cores else usable
    text = f"{allowed} of {cores.present if cores else usable} cores for this process"
    cure = ""
    if quota is not None and quota < allowed:
        text += f", {quota:g} cores' worth of time for its container"
        cure = "give the container more (docker run without --cpus), or as many threads as it has: --threads"
    elif cores and cores.online < cores.present:
        text += f", {cores.present - cores.online} switched off"
        cure = "sudo nvpmodel -m MODE, see 'power mode'" if is_jetson(root) else "switch them on: sudo chcpu -e 0-N"
    limits = thread_variables() if root == Path("/") else {}
    if limits:
        text += f"; {', '.join(f'{name}={value}' for name, value in limits.items())} limits NumPy and OpenCV"
    return judged(TOPIC, "threads", text, cure)


def _memory(root: Path) -> Iterator[Finding]:
    sizes = {
        name: int(kib) // 1024
        for name, kib in re.findall(r"^(\w+):\s*(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    }
    if "MemTotal" not in sizes:
        return
    free, total = sizes.get("MemAvailable", 0), sizes["MemTotal"]
    yield judged(
        TOPIC,
        "memory",
        f"{total / 1024:.1f} GiB, {free / 1024:.1f} available",
        "close other programs, or start without a desktop: sudo systemctl set-default multi-user.target"
        if free < LITTLE_MEMORY
        else "",
    )
    swap = sizes.get("SwapTotal", 0)
    short = is_jetson(root) and total <= SMALL_BOARD and swap < total // 4
    yield judged(
        TOPIC,
        "swap",
        (f"{swap / 1024:.1f} GiB" if swap else "none") + ("; building a TensorRT engine may run out" if short else ""),
        SWAP_CURE if short else "",
    )


def _clocks(root: Path) -> Finding:
    clocks = read_clocks(root)
    driver = read_text(root / "sys/devices/system/cpu/cpufreq/policy0/scaling_driver")
    now = f"{clocks.now_mhz:.0f} MHz now" if clocks.now_mhz else "clock unknown"
    most = f", at most {clocks.max_mhz:.0f}" if clocks.max_mhz else ""
    slow = clocks.governor == "powersave" and driver not in DYNAMIC_POWERSAVE
    return judged(
        TOPIC,
        "clocks",
        f"{now}{most}, governor {clocks.governor or 'unknown'}" + (": stays at the lowest clock" if slow else ""),
        "echo schedutil | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor" if slow else "",
    )


def _temperature(root: Path) -> Iterator[Finding]:
    zones = read_zones(root)
    now, since = read_throttling(root)
    if not (zones or now or since):
        return
    parts, cures = [], []
    if zones:
        limit = zones[0].limit
        parts.append(f"{zones[0].name} {zones[0].celsius:.0f} C" + (f", slows down at {limit:.0f}" if limit else ""))
        if any(zone.limit is not None and zone.celsius >= zone.limit - NEAR for zone in zones):
            parts[0] += ": hot"
            cures.append(COOLING)
    for when, names in (("now", now), ("since the start", since)):
        if names:
            parts.append(f"slowed down {when}: {', '.join(names)}")
            cures += [SUPPLY if "volt" in name else COOLING for name in names]
    yield judged(TOPIC, "temperature", "; ".join(parts), ", and ".join(dict.fromkeys(cures)))
