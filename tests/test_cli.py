"""The command line as a user meets it: exit codes, one sentence per error, one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from solov2_edge import __version__, cli
from solov2_edge.console import CommandResult, Console, json_ready
from solov2_edge.errors import GateError, InputError, MissingDependencyError, SolovEdgeError

Run = Callable[[argparse.Namespace, Console], CommandResult]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Make ``solov2-edge probe`` run the given function."""

    def install(run: Run) -> None:
        module: Any = ModuleType("probe_command")
        module.add_arguments = lambda parser: parser.add_argument("--size", type=int)
        module.run = run
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(cli.VERBS, "probe", ("probe_command", "a probe"))

    return install


def raiser(error: BaseException) -> Run:
    def run(args: argparse.Namespace, console: Console) -> CommandResult:
        raise error

    return run


ENDINGS = [
    (SolovEdgeError("it failed"), 1, "it failed"),
    (InputError("bad input"), 2, "bad input"),
    (GateError("too far off"), 3, "too far off"),
    (MissingDependencyError("torch", "train", "training"), 4, "pip install 'solov2-edge[train]'"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), 4, "pip install 'solov2-edge[train]'"),
    (ModuleNotFoundError("No module named 'onnx.x'", name="onnx.x"), 4, "pip install 'solov2-edge[convert]'"),
    (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), 4, "solov2-edge[onnx]"),
    (ModuleNotFoundError("No module named 'pycocotools'", name="pycocotools"), 4, "solov2-edge[eval]"),
    (ModuleNotFoundError("No module named 'other'", name="other"), 1, "a bug in solov2-edge"),
    (FileNotFoundError(2, "No such file or directory", "x.json"), 2, "x.json: No such file or directory"),
    (PermissionError(13, "Permission denied", "/etc/x"), 2, "/etc/x: Permission denied"),
    (OSError(28, "No space left on device"), 1, "No space left on device"),
    (MemoryError(), 1, "out of memory"),
    (ZeroDivisionError("division by zero"), 1, "a bug in solov2-edge: ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("error", "code", "sentence"), ENDINGS, ids=lambda value: type(value).__name__)
def test_every_ending_is_one_sentence_and_its_exit_code(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    verb(raiser(error))
    assert cli.main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("solov2-edge: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("error", "code", "sentence"), ENDINGS, ids=lambda value: type(value).__name__)
def test_json_errors_are_one_object_on_stdout(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    verb(raiser(error))
    assert cli.main(["probe", "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["exit_code"] == code
    assert sentence in document["error"]
    assert err == ""


def test_a_bug_shows_its_traceback_only_on_request(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verb(raiser(ZeroDivisionError("division by zero")))
    monkeypatch.setenv("SOLOV2_EDGE_DEBUG", "1")
    assert cli.main(["probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interruption_is_quiet(verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(raiser(KeyboardInterrupt()))
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr() == ("", "")


def test_results_go_to_stdout_and_logs_to_stderr(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace, console: Console) -> CommandResult:
        console.log("working")
        console.say("done")
        return CommandResult({"value": float("nan"), "pair": (1, 2)}, 3)

    verb(run)
    assert cli.main(["probe"]) == 3
    assert capsys.readouterr() == ("done\n", "working\n")
    assert cli.main(["probe", "--quiet"]) == 3
    assert capsys.readouterr() == ("done\n", "")
    assert cli.main(["--json", "probe"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"value": None, "pair": [1, 2]}
    assert err == "working\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a verb: quickstart"),
        (["convrt"], "unknown verb 'convrt'; did you mean convert?"),
        (["zzz"], "unknown verb 'zzz'; expected one of quickstart"),
        (["--jsno", "convert"], "unknown argument '--jsno'; did you mean --json?"),
        (["probe", "--siez", "3"], "unknown argument '--siez'; did you mean --size?"),
        (["probe", "--size", "big"], "argument --size: invalid int value: 'big' (see solov2-edge probe --help)"),
        (["convert"], "the following arguments are required: checkpoint"),
    ],
)
def test_usage_errors_are_one_sentence_with_a_hint(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    verb(lambda args, console: CommandResult({}))
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"solov2-edge {__version__}"
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_explains_itself_without_loading_anything_heavy(name: str) -> None:
    code = (
        "import sys\n"
        "from solov2_edge.cli import main\n"
        f"code = main([{name!r}, '--help'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'cv2'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"solov2-edge {name}" in done.stdout
    assert "--json" in done.stdout


def test_the_module_runs_and_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "solov2_edge", "models", "--json"], stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr == b""
    assert done.returncode == 141


def test_the_module_passes_the_exit_code_on() -> None:
    done = subprocess.run([sys.executable, "-m", "solov2_edge", "zzz"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_json_ready_keeps_what_json_knows(tmp_path: Any) -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": tmp_path, 3: (float("inf"),)}
    assert json_ready(value) == {"a": [1, 2.5, None, True, "x"], "b": str(tmp_path), "3": [None]}


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    assert list(console.track([1, 2], 2, "things")) == [1, 2]
    with console.counter("things") as move:
        move(1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(Console().track([1, 2], 2, "things")) == [1, 2]
    with Console().counter("pictures") as move:
        move(1, 2)
        move(2, 2)
    noting = Console()
    noting.note("nobody looks")
    for n in noting.track([1, 2], 2, "steps"):
        noting.note(f"loss {n}.5")
    err = capsys.readouterr().err
    assert "things" in err
    assert "loss 2.5" in err
    assert "nobody" not in err
    assert "pictures" in err


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("model", "AP"), [("a.onnx", "29.6"), ("long-name.onnx", "3.0")])
    assert capsys.readouterr().out == "model             AP\na.onnx          29.6\nlong-name.onnx   3.0\n"
