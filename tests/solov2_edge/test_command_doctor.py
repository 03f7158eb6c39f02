"""The verb ``doctor``: what it prints, its JSON, and an OpenCV that cannot be imported."""

import json
import subprocess
import sys

import pytest

from solov2_edge.cli import main


@pytest.fixture
def orin(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    return str(checkout / "tests/data/machines/orin-nano-jetpack6")


def test_a_recorded_machine_in_words(orin, capsys):
    assert main(["doctor", "--root", orin]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "machine",
        "jetson",
        "cameras",
        "13 ok, 4 warnings, 0 missing",
    ]
    at = next(number for number, line in enumerate(lines) if "power mode" in line)
    assert " ".join(lines[at].split()) == "warning power mode 1 25W, the fastest is 2 MAXN_SUPER"
    assert lines[at + 1].strip() == "-> sudo nvpmodel -m 2  # some modes ask for a restart"


def test_a_recorded_machine_as_json(orin, capsys):
    assert main(["doctor", "--root", orin, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"ok": 13, "warning": 4, "missing": 0}
    assert document["root"] == orin
    assert {"topic", "name", "state", "text", "cure"} == set(document["findings"][0])
    assert all(bool(finding["cure"]) == (finding["state"] != "ok") for finding in document["findings"])


def test_this_machine(capsys):
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(document["counts"].values()) == len(document["findings"])
    engine = next(finding for finding in document["findings"] if finding["name"] == "ONNX Runtime")
    assert (engine["state"], "CPU" in engine["text"]) == ("ok", True)


def test_a_root_that_is_none(tmp_path, capsys):
    assert main(["doctor", "--root", str(tmp_path / "x")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "cure"),
    [
        ("ImportError('libGL.so.1: cannot open shared object file')", "sudo apt install libgl1"),
        ("ImportError('numpy.core.multiarray failed to import')", "pip install 'numpy<2'"),
        ("AttributeError('_ARRAY_API not found')", "pip install 'numpy<2'"),
        ("ModuleNotFoundError('No module named cv2', name='cv2')", "pip install opencv-python-headless"),
        ("ModuleNotFoundError('No module named numpy', name='numpy')", "pip install numpy"),
    ],
)
def test_an_opencv_that_cannot_be_imported_is_the_finding(raised, cure):
    code = (
        "import sys, importlib.abc\n"
        "class Broken(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'cv2': raise {raised}\n"
        "sys.meta_path.insert(0, Broken())\n"
        "from solov2_edge.cli import main\n"
        "sys.exit(main(['doctor', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["state"] == "missing"
    assert finding["text"].startswith("cannot be imported, and everything else waits for it: ")
    assert cure in finding["cure"]
