from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from solov2_edge.runtime import doctor_opencv
from solov2_edge.runtime.doctor_opencv import build_facts, opencv_findings
from solov2_edge.runtime.finding import Finding

HEADLESS = "  GUI:                           NONE\n\n  Video I/O:\n    FFMPEG:       YES\n    GStreamer:    NO\n"
JETPACK = (
    "  GUI:                           GTK3\n    GTK+:                        YES (ver 3.24.33)\n"
    "  Video I/O:\n    DC1394:                      YES (2.2.6)\n    FFMPEG:                      YES\n"
    "    GStreamer:                   YES (1.20.3)\n    v4l/v4l2:                    YES (linux/videodev2.h)\n"
)
OLD = "  GUI: \n    QT:                          YES (ver 5.15.2)\n    GTK+:       NO\n    GStreamer:  NO\n"


def look(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    builds: dict[str, str],
    build: str = HEADLESS,
    environment: dict[str, str] | None = None,
) -> dict[str, Finding]:
    monkeypatch.setattr(doctor_opencv, "installed", builds.get)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    return {finding.name: finding for finding in opencv_findings(root, environment or {}, build)}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (HEADLESS, {"GUI": "NONE", "FFMPEG": "YES", "GStreamer": "NO"}),
        (JETPACK, {"GUI": "GTK3", "FFMPEG": "YES", "GStreamer": "YES (1.20.3)"}),
        (OLD, {"GUI": "QT", "GStreamer": "NO"}),
        ("  GUI:\n    GTK+:  NO\n", {"GUI": "NONE"}),
        ("", {}),
    ],
)
def test_what_opencv_was_built_with(text: str, facts: dict[str, str]) -> None:
    assert build_facts(text) == facts


def test_the_opencv_that_is_here_says_so() -> None:
    facts = build_facts(cv2.getBuildInformation())
    assert {"GUI", "GStreamer"} <= set(facts)
    findings = list(opencv_findings(Path("/")))
    assert [finding.name for finding in findings] == ["NumPy", "OpenCV", "window", "GStreamer"]
    assert findings[0].text == np.__version__


def test_headless_on_a_pc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    findings = look(monkeypatch, tmp_path, {"opencv-python-headless": "5.0.0"})
    assert findings["OpenCV"].text == "opencv-python-headless 5.0.0"
    assert findings["window"].state == "warning"
    assert findings["window"].cure.startswith(
        "pip uninstall -y opencv-python-headless && pip install --no-deps opencv-python  #"
    )
    assert findings["GStreamer"].state == "ok"


def test_both_installed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builds = {"opencv-python-headless": "5.0.0", "opencv-python": "4.13.0"}
    finding = look(monkeypatch, tmp_path, builds)["OpenCV"]
    assert finding.state == "warning"
    assert finding.text.startswith("opencv-python 4.13.0 and opencv-python-headless 5.0.0 own the same folder `cv2`")
    assert finding.cure == (
        "pip uninstall -y opencv-python opencv-python-headless && pip install --no-deps opencv-python"
    )


def test_pips_opencv_on_a_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").touch()
    finding = look(monkeypatch, tmp_path, {"opencv-python-headless": "5.0.0"})["GStreamer"]
    assert finding.state == "warning"
    assert "sudo apt install nvidia-opencv" in finding.cure


def test_the_systems_opencv_with_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    findings = look(monkeypatch, tmp_path, {}, JETPACK, {"DISPLAY": ":0"})
    assert findings["OpenCV"].text == f"{cv2.__version__} of the system ({Path(cv2.__file__).parent})"
    assert findings["window"].text == "GTK3"
    assert findings["GStreamer"].text == "in OpenCV (1.20.3)"
    assert {finding.state for finding in findings.values()} == {"ok"}


def test_a_window_without_a_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finding = look(monkeypatch, tmp_path, {"opencv-python": "4.13.0"}, JETPACK)["window"]
    assert finding.text == "GTK3, but there is no screen (DISPLAY is not set)"
    assert finding.cure.startswith("solov2-edge live --serve 8080")
