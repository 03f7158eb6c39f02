"""The findings on recorded machines; tests/data/machines/README.md says how those were made."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.doctor import examine
from solov2_edge.runtime.doctor_cameras import camera_findings
from solov2_edge.runtime.finding import STATES, Finding

MACHINES = ("orin-nano-jetpack6", "xavier-nx-jetpack5", "raspberry-pi-5", "x86-laptop")


@pytest.fixture
def machines(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", "/usr/bin")
    return checkout / "tests/data/machines"


def found(root: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(root)}


def wrong(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.state for name, finding in findings.items() if finding.state != "ok"}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_wrong_has_a_cure_and_nothing_of_this_machine_is_told(machines: Path, machine: str) -> None:
    findings = list(examine(machines / machine))
    assert {finding.topic for finding in findings} <= {"machine", "jetson", "cameras"}
    assert all(finding.state in STATES and finding.text for finding in findings)
    assert len({(finding.topic, finding.name) for finding in findings}) == len(findings)
    assert ("jetson" in {finding.topic for finding in findings}) == ("jetpack" in machine)


def test_an_orin_nano(machines: Path) -> None:
    findings = found(machines / "orin-nano-jetpack6")
    assert findings["board"].text == (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, Cortex-A78AE, Ubuntu 22.04.5 LTS"
    )
    assert findings["JetPack"].text == "JetPack 6.2, Jetson Linux 36.4.3"
    assert findings["power mode"].text == "1 25W, the fastest is 2 MAXN_SUPER"
    assert findings["power mode"].cure.startswith("sudo nvpmodel -m 2 ")
    assert findings["GPU clock"].text == "306 MHz now, 306 to 918"
    assert findings["clocks"].text == "1267 MHz now, at most 1344, governor schedutil"
    assert (findings["CUDA"].text, findings["TensorRT"].text) == ("12.6.11", "10.3.0")
    assert findings["8-bit products"].text == "dotprod"
    assert findings["temperature"].text == "tj-thermal 47 C"
    assert findings["/dev/video0"].text.startswith("vi-output, imx219 9-0010, as --source csi://0")
    assert findings["gst-launch-1.0"].text == "/usr/bin/gst-launch-1.0"
    assert wrong(findings) == dict.fromkeys(("swap", "power mode", "jetson_clocks", "supply"), "warning")
    assert "instantaneous over-current 12 times" in findings["supply"].text
    assert findings["swap"].cure.startswith("sudo fallocate -l 8G /swapfile")


def test_a_xavier_nx(machines: Path) -> None:
    findings = found(machines / "xavier-nx-jetpack5")
    assert findings["JetPack"].text.startswith("JetPack 5.1.2, Jetson Linux 35.4.1: its Python 3.8 is older")
    assert findings["threads"].text == "2 of 6 cores for this process, 4 switched off"
    assert findings["power mode"].text == "3 MODE_10W_2CORE, the fastest is 8 MODE_20W_6CORE"
    assert findings["temperature"].text == (
        "CPU-therm 94 C, slows down at 96: hot; slowed down now: cpu-throttle-alert, thermal-cpufreq-0"
    )
    assert findings["jetson_clocks"].state == "ok"
    assert wrong(findings) == {
        "8-bit products": "warning",
        "threads": "warning",
        "memory": "warning",
        "temperature": "warning",
        "JetPack": "warning",
        "power mode": "warning",
        "CUDA": "missing",
        "TensorRT": "missing",
        "nvarguscamerasrc": "missing",
        "gst-launch-1.0": "missing",
    }
    assert findings["/dev/video0"].text == "HD Pro Webcam C920, as --source 0"
    assert "/dev/video1" not in findings, "what a webcam says of itself is no picture"


def test_a_raspberry_pi(machines: Path) -> None:
    findings = found(machines / "raspberry-pi-5")
    assert findings["board"].text == "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76, Debian GNU/Linux 12 (bookworm)"
    assert wrong(findings) == {"temperature": "warning"}
    assert findings["temperature"].text == "cpu-thermal 58 C; slowed down now: under-voltage"
    assert findings["temperature"].cure.startswith("a supply")
    assert [name for name in findings if name.startswith("/dev/video")] == ["/dev/video0"]


def test_a_laptop(machines: Path) -> None:
    findings = found(machines / "x86-laptop")
    assert findings["threads"].text == "4 of 8 cores for this process, 2 cores' worth of time for its container"
    assert findings["clocks"].text.endswith("governor powersave")
    assert findings["clocks"].state == "ok", "intel_pstate's powersave follows the load"
    assert findings["8-bit products"].cure.startswith("compare before choosing: solov2-edge advise")
    assert findings["/dev/video*"].state == "missing"


def test_the_daemon_of_csi_cameras(machines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/aarch64-linux-gnu/gstreamer-1.0"
    folder.mkdir(parents=True)
    (folder / "libgstnvarguscamerasrc.so").touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").touch()
    findings = found(tmp_path)
    assert findings["nvarguscamerasrc"].state == "warning"
    assert findings["nvarguscamerasrc"].cure.startswith("sudo systemctl restart nvargus-daemon; in a container -v")
    assert findings["JetPack"].state == "missing"
    assert findings["power mode"].state == "missing"


def test_a_jetson_without_the_jetpack_packages(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.4, GCID: 1\n")
    (tmp_path / "etc/nvpmodel.conf").write_text("< POWER_MODEL ID=0 NAME=15W >\n")
    findings = found(tmp_path)
    assert findings["JetPack"].text == "JetPack 6.2.1, Jetson Linux 36.4.4, without the package nvidia-jetpack"
    assert findings["JetPack"].cure == "sudo apt update && sudo apt install nvidia-jetpack"
    assert findings["power mode"].text == "unknown"


def test_a_governor_that_stays_at_the_bottom(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    folder.mkdir(parents=True)
    for name, text in {"governor": "powersave", "driver": "cpufreq-dt", "cur_freq": "600000"}.items():
        (folder / f"scaling_{name}").write_text(text)
    finding = found(tmp_path)["clocks"]
    assert finding.text == "600 MHz now, governor powersave: stays at the lowest clock"
    assert finding.cure.startswith("echo schedutil | sudo tee ")


def test_a_camera_that_may_not_be_read_names_its_group(machines: Path, tmp_path: Path) -> None:
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path.name, mode))
        return False

    finding, *_ = camera_findings(machines / "raspberry-pi-5", access)
    assert asked == [("video0", os.R_OK | os.W_OK)]
    assert finding.state == "missing"
    assert finding.text == "USB Camera: USB Camera, which you may not read"
    assert re.fullmatch(r"sudo usermod -aG \S+ \$USER, then log in again", finding.cure)

    device = tmp_path / "dev/video0"
    device.parent.mkdir()
    device.touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text(f"root:x:0:\nfilm:x:{device.stat().st_gid or 4711}:\n")
    finding, *_ = camera_findings(tmp_path, access)
    expected = "film" if device.stat().st_gid else "video"
    assert finding.cure == f"sudo usermod -aG {expected} $USER, then log in again"


def test_systems_that_do_not_list_cameras_as_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    (finding,) = camera_findings(Path("/"))
    assert (finding.state, finding.name) == ("ok", "cameras")


def test_this_machine_can_be_looked_at() -> None:
    findings = list(examine())
    assert {"machine", "engines", "OpenCV", "cameras"} <= {finding.topic for finding in findings}
    assert next(finding for finding in findings if finding.name == "board").text


def test_a_root_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        list(examine(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="holds neither proc, sys nor etc"):
        list(examine(tmp_path))


@pytest.mark.parametrize(("state", "cure"), [("ok", "do it"), ("warning", ""), ("missing", ""), ("bad", "do it")])
def test_a_finding_has_a_cure_where_it_needs_one(state: str, cure: str) -> None:
    with pytest.raises(InputError):
        Finding("machine", "memory", state, "little", cure)
