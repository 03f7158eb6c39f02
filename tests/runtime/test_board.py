from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.runtime.board import (
    Cores,
    Zone,
    cpu_name,
    find_command,
    parse_packages,
    read_cores,
    read_throttling,
    read_zones,
)
from solov2_edge.runtime.machine import parse_cpu_features


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def core(implementer: str, part: str) -> str:
    return f"processor\t: 0\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (core("0x41", "0xd42") * 6, "Cortex-A78AE"),
        (core("0x41", "0xd03") * 4 + core("0x41", "0xd08") * 2, "Cortex-A53 + Cortex-A72"),
        (core("0x4e", "0x004"), "NVIDIA Carmel"),
        (core("0x99", "0x001"), ""),
        ("model name : Some CPU\n", "Some CPU"),
        ("", ""),
    ],
)
def test_the_name_of_the_processor(tmp_path: Path, text: str, name: str) -> None:
    assert cpu_name(plant(tmp_path, {"proc/cpuinfo": text})) == name


def test_features_of_x86_and_arm() -> None:
    assert parse_cpu_features("flags\t\t: fpu avx2 avx512_vnni\n") == {"fpu", "avx2", "avx512_vnni"}
    assert parse_cpu_features("Features\t: fp asimd asimddp\n") == {"fp", "asimd", "asimddp"}
    assert parse_cpu_features("") == frozenset()


def test_cores(tmp_path: Path) -> None:
    assert read_cores(tmp_path) is None
    folder = "sys/devices/system/cpu"
    plant(tmp_path, {f"{folder}/online": "0-1\n"})
    assert read_cores(tmp_path) == Cores(2, 2, 2)
    plant(tmp_path, {f"{folder}/present": "0-5\n", "proc/self/status": "Cpus_allowed_list:\t1,4-5\n"})
    assert read_cores(tmp_path) == Cores(6, 2, 1)


def test_the_cores_of_this_machine() -> None:
    cores = read_cores(Path("/"))
    assert cores is None or 1 <= cores.allowed <= cores.online <= cores.present


def test_temperatures_hottest_first_and_sensors_that_are_off_left_out(tmp_path: Path) -> None:
    folder = "sys/class/thermal"
    plant(
        tmp_path,
        {
            f"{folder}/thermal_zone0/type": "cpu-thermal\n",
            f"{folder}/thermal_zone0/temp": "46062\n",
            f"{folder}/thermal_zone0/trip_point_0_type": "active\n",
            f"{folder}/thermal_zone0/trip_point_0_temp": "40000\n",
            f"{folder}/thermal_zone0/trip_point_1_type": "passive\n",
            f"{folder}/thermal_zone0/trip_point_1_temp": "99000\n",
            f"{folder}/thermal_zone0/trip_point_2_type": "hot\n",
            f"{folder}/thermal_zone0/trip_point_2_temp": "95000\n",
            f"{folder}/thermal_zone1/temp": "51500\n",
            f"{folder}/thermal_zone2/temp": "-274000\n",
            f"{folder}/thermal_zone3/type": "cv0-thermal\n",
            f"{folder}/thermal_zone4/type": "PMIC-Die\n",
            f"{folder}/thermal_zone4/temp": "100000\n",
            f"{folder}/thermal_zone5/temp": "0\n",
        },
    )
    assert read_zones(tmp_path) == (Zone("thermal_zone1", 51.5, None), Zone("cpu-thermal", 46.062, 95.0))


@pytest.mark.parametrize(
    ("bits", "now", "since"),
    [
        ("0", (), ()),
        ("50000", (), ("under-voltage", "throttled")),
        ("0x50005", ("under-voltage", "throttled"), ()),
        ("e0008", ("soft temperature limit",), ("clock capped", "throttled")),
        ("nonsense!", (), ()),
    ],
)
def test_what_a_raspberry_pi_says_of_its_throttling(
    tmp_path: Path, bits: str, now: tuple[str, ...], since: tuple[str, ...]
) -> None:
    plant(tmp_path, {"sys/devices/platform/soc@107c000000/soc@107c000000_firmware/get_throttled": bits})
    assert read_throttling(tmp_path) == (now, since)


def test_fans_slow_nothing_down(tmp_path: Path) -> None:
    folder = "sys/class/thermal"
    for number, (name, state) in enumerate(
        [("pwm-fan", 3), ("gpu-throttle-alert", 1), ("cpufreq-cpu0", 0), ("intel_powerclamp", -1), ("Processor", 2)]
    ):
        device = f"{folder}/cooling_device{number}"
        plant(tmp_path, {f"{device}/type": name, f"{device}/cur_state": str(state)})
    assert read_throttling(tmp_path) == (("gpu-throttle-alert", "Processor"), ())


def test_only_installed_packages_count() -> None:
    text = (
        "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: half\nStatus: install reinstreq half-installed\nVersion: 2\n\n"
        "Package: held\nStatus: hold ok installed\nVersion: 3\nDescription: Version: 4\n"
    )
    assert parse_packages(text) == {"nvidia-jetpack": "6.2+b77", "held": "3"}
    assert parse_packages("") == {}


def test_commands_are_looked_for_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/own:relative")
    for name in ("opt/own/first", "usr/sbin/second", "usr/bin/unrunnable", "relative/third"):
        plant(tmp_path, {name: "#!/bin/sh\n"})
        (tmp_path / name).chmod(0o644 if "unrunnable" in name else 0o755)
    assert find_command(tmp_path, "first") == tmp_path / "opt/own/first"
    assert find_command(tmp_path, "second") == tmp_path / "usr/sbin/second"
    assert find_command(tmp_path, "unrunnable") is None
    assert find_command(tmp_path, "third") is None
