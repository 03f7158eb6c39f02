from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.runtime.jetson import (
    DevFreq,
    PowerMode,
    clocks_pinned,
    cuda_version,
    current_mode,
    fastest_mode,
    is_jetson,
    jetpack_of,
    overcurrents,
    parse_l4t,
    parse_power_modes,
    read_gpu,
    tensorrt_version,
)


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_jetson_is_known_by_its_release_or_its_device_tree(tmp_path: Path) -> None:
    assert not is_jetson(tmp_path)
    assert is_jetson(plant(tmp_path / "a", {"etc/nv_tegra_release": ""}))
    assert is_jetson(plant(tmp_path / "b", {"proc/device-tree/compatible": "nvidia,p3767\0nvidia,tegra234\0"}))
    assert not is_jetson(plant(tmp_path / "c", {"proc/device-tree/compatible": "brcm,bcm2712\0"}))


@pytest.mark.parametrize(
    ("text", "l4t", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n", "36.4.3", "6.2"),
        ("# R36 (release), REVISION: 4.7, GCID: 1\n", "36.4.7", "6"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "35.4.1", "5.1.2"),
        ("# R39 (release), REVISION: 2.1, GCID: 46758480", "39.2.1", "7.2"),
        ("# R41 (release), REVISION: 1.0, GCID: 1", "41.1.0", None),
        ("something else", None, None),
    ],
)
def test_releases(text: str, l4t: str | None, jetpack: str | None) -> None:
    assert parse_l4t(text) == l4t
    assert (jetpack_of(l4t) if l4t else None) == jetpack


CONF = """# header
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""


def test_power_modes(tmp_path: Path) -> None:
    modes, default = parse_power_modes(CONF)
    assert modes == (PowerMode(0, "15W"), PowerMode(1, "25W"), PowerMode(2, "MAXN_SUPER"))
    assert default == 1
    assert parse_power_modes("") == ((), None)
    plant(tmp_path, {"etc/nvpmodel.conf": CONF})
    assert current_mode(tmp_path) == (PowerMode(1, "25W"), modes), "never chosen: the one it starts with"
    plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n"})
    assert current_mode(tmp_path)[0] == PowerMode(2, "MAXN_SUPER")
    plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0009\n"})
    assert current_mode(tmp_path)[0] is None


@pytest.mark.parametrize(
    ("names", "fastest"),
    [
        (("15W", "25W", "MAXN_SUPER", "7W"), "MAXN_SUPER"),
        (("MAXN", "10W", "15W", "25W", "40W", "MAXN_SUPER"), "MAXN_SUPER"),
        (("MAXN", "15W", "50W"), "MAXN"),
        (("MODE_15W_6CORE", "MODE_20W_2CORE", "MODE_20W_6CORE", "MODE_10W_DESKTOP"), "MODE_20W_6CORE"),
        (("15W", "7W"), "15W"),
    ],
)
def test_the_fastest_mode_is_not_the_one_of_the_highest_number(names: tuple[str, ...], fastest: str) -> None:
    modes = [PowerMode(number, name) for number, name in enumerate(names)]
    assert fastest_mode(modes).name == fastest


def test_clocks_of_the_gpu(tmp_path: Path) -> None:
    assert read_gpu(tmp_path) is None
    for name, clocks in (("15340000.vic", "1"), ("17000000.gpu", "306000000")):
        folder = f"sys/class/devfreq/{name}"
        plant(tmp_path, {f"{folder}/{file}": clocks for file in ("cur_freq", "min_freq", "max_freq")})
    assert read_gpu(tmp_path) == DevFreq(306.0, 306.0, 306.0)


@pytest.mark.parametrize(
    ("cpu", "gpu", "pinned"),
    [(None, None, None), (True, None, True), (True, True, True), (True, False, False), (False, True, False)],
)
def test_jetson_clocks(tmp_path: Path, cpu: bool | None, gpu: bool | None, pinned: bool | None) -> None:
    if cpu is not None:
        folder = "sys/devices/system/cpu/cpufreq/policy0"
        plant(tmp_path, {f"{folder}/scaling_max_freq": "9", f"{folder}/scaling_min_freq": "9" if cpu else "1"})
    if gpu is not None:
        folder = "sys/class/devfreq/17000000.ga10b"
        files = {"cur_freq": "9", "max_freq": "9", "min_freq": "9" if gpu else "1"}
        plant(tmp_path, {f"{folder}/{name}": text for name, text in files.items()})
    assert clocks_pinned(tmp_path) is pinned


def test_overcurrents(tmp_path: Path) -> None:
    folder = "sys/class/hwmon/hwmon3"
    plant(tmp_path, {f"{folder}/name": "soctherm_oc", f"{folder}/oc1_event_cnt": "0", f"{folder}/oc3_event_cnt": "12"})
    plant(tmp_path, {"sys/class/hwmon/hwmon1/name": "ina3221", "sys/class/hwmon/hwmon1/oc1_event_cnt": "5"})
    assert overcurrents(tmp_path) == {"instantaneous over-current": 12}


def test_cuda_and_tensorrt(tmp_path: Path) -> None:
    assert (cuda_version(tmp_path), tensorrt_version(tmp_path)) == (None, None)
    plant(tmp_path, {"usr/local/cuda/version.json": '{"cuda": {"version": "12.6.11"}}'})
    folder = "usr/lib/aarch64-linux-gnu"
    plant(tmp_path, {f"{folder}/{name}": "" for name in ("libnvinfer.so.10", "libnvinfer.so.10.3.0", "libnvinfer.so")})
    assert (cuda_version(tmp_path), tensorrt_version(tmp_path)) == ("12.6.11", "10.3.0")
    plant(tmp_path, {"usr/local/cuda/version.json": "{}"})
    assert cuda_version(tmp_path) is None
