from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.runtime import machine
from solov2_edge.runtime.machine import (
    Clocks,
    CpuInfo,
    parse_cpu_max,
    parse_cpuinfo,
    parse_meminfo,
    parse_os_release,
    read_clocks,
    read_machine,
    thread_variables,
    versions,
)

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz
cpu MHz\t\t: 1800.000
flags\t\t: fpu vme

processor\t: 1
model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz
cpu MHz\t\t: 3391.126
power management:
"""
RASPBERRY = """processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU part\t: 0xd08

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""


def test_x86_names_its_model_and_every_clock() -> None:
    assert parse_cpuinfo(X86) == CpuInfo("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", (1800.0, 3391.126))


def test_arm_names_its_hardware_or_nothing() -> None:
    assert parse_cpuinfo(RASPBERRY) == CpuInfo("BCM2835", ())
    assert parse_cpuinfo("processor : 0\nCPU part : 0xd42\n") == CpuInfo("", ())
    assert parse_cpuinfo("") == CpuInfo("", ())


def test_memory_and_distribution() -> None:
    assert parse_meminfo("MemTotal:       16316412 kB\nMemFree: 1 kB\n") == 16316412 * 1024
    assert parse_meminfo("") is None
    assert parse_os_release('NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n') == "Ubuntu 22.04.4 LTS"
    assert parse_os_release("PRETTY_NAME=Alpine\n") == "Alpine"
    assert parse_os_release("") is None


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("", None), ("100000 0", None)]
)
def test_the_quota_of_a_container(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_clocks_of_big_and_little_cores(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpufreq"
    plant(
        tmp_path,
        {
            f"{folder}/policy0/scaling_governor": "schedutil\n",
            f"{folder}/policy0/scaling_cur_freq": "600000\n",
            f"{folder}/policy0/scaling_max_freq": "1800000\n",
            f"{folder}/policy4/scaling_governor": "performance\n",
            f"{folder}/policy4/scaling_cur_freq": "2200000\n",
            f"{folder}/policy4/scaling_max_freq": "<unknown>\n",
            "proc/cpuinfo": X86,
        },
    )
    assert read_clocks(tmp_path) == Clocks("performance, schedutil", 2200.0, 1800.0)


def test_a_virtual_machine_has_the_clock_of_cpuinfo(tmp_path: Path) -> None:
    assert read_clocks(plant(tmp_path, {"proc/cpuinfo": X86})) == Clocks(None, 3391.126, None)


def test_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.processor", lambda: "aarch64")
    plant(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nCPU part : 0xd42\n",
            "proc/meminfo": "MemTotal: 7802460 kB\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.3 LTS"\n',
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
        },
    )
    found = read_machine(tmp_path)
    assert (found.cpu, found.board) == ("aarch64", "NVIDIA Jetson Orin Nano Developer Kit")
    assert (found.memory_bytes, found.cpu_quota) == (7802460 * 1024, 2.0)
    assert found.to_dict()["clocks"] == {"governor": None, "now_mhz": None, "max_mhz": None}


def test_a_system_without_proc_says_what_python_knows(tmp_path: Path) -> None:
    found = read_machine(tmp_path)
    assert found.cpu
    assert 1 <= found.usable_cores <= found.cores
    assert found.board is None
    assert found.distribution is None
    assert found.clocks == Clocks(None, None, None)


def test_this_machine_can_be_read() -> None:
    found = read_machine()
    assert found.cpu
    assert found.system


def test_versions_name_python_numpy_and_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    found = versions()
    assert found["numpy"] == np.__version__
    assert "python" in found
    assert any(name.startswith("opencv-") for name in found)
    monkeypatch.setattr(machine, "DISTRIBUTIONS", ("no-such-distribution",))
    assert list(versions()) == ["python"]


def test_variables_that_limit_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_variables() == {"OMP_NUM_THREADS": "3"}
