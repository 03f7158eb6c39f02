from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ai_edge_litert.interpreter
import numpy as np
import pytest

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.runtime import litert_package
from solov2_edge.runtime.litert import LitertSession

AssertTiny = Callable[..., None]
MakeTflite = Callable[..., Path]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that packages are not installed."""
    real = importlib.import_module

    def import_module(path: str) -> Any:
        if path.split(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {path.split('.')[0]!r}", name=path.split(".")[0])
        return real(path)

    monkeypatch.setattr(litert_package, "importlib", SimpleNamespace(import_module=import_module))


def provide(monkeypatch: pytest.MonkeyPatch, path: str, **parts: Any) -> None:
    """Put a module of another name in place, with parts of its own."""
    package = path.split(".")[0]
    module = ModuleType(path)
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, path, module)


def test_nothing_installed_names_the_line_that_installs_it(
    make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(monkeypatch, "ai_edge_litert", "tflite_runtime", "tensorflow")
    with pytest.raises(MissingDependencyError, match=r"pip install 'solov2-edge\[tflite\]'") as caught:
        LitertSession(make_tflite())
    assert caught.value.package == "ai-edge-litert"
    assert caught.value.exit_code == 4


def test_the_older_package_runs_too(
    make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch, assert_tiny: AssertTiny
) -> None:
    real = ai_edge_litert.interpreter
    parts = {name: getattr(real, name) for name in ("Interpreter", "OpResolverType", "load_delegate")}
    absent(monkeypatch, "ai_edge_litert", "tensorflow")
    provide(monkeypatch, "tflite_runtime.interpreter", **parts)
    session = LitertSession(make_tflite())
    assert session.engine.startswith("tflite-runtime ")
    assert_tiny(session.run(GREY))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)
    with pytest.raises(InputError, match=r"gpu needs ai-edge-litert 2.0 or later, but tflite-runtime"):
        LitertSession(make_tflite(), providers="gpu")


def test_tensorflows_copy_runs_too(
    make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch, assert_tiny: AssertTiny
) -> None:
    real = ai_edge_litert.interpreter

    def warning_interpreter(**options: Any) -> Any:
        import warnings

        warnings.warn("    Warning: tf.lite.Interpreter is deprecated and is scheduled for deletion", stacklevel=2)
        return real.Interpreter(**options)

    experimental = SimpleNamespace(OpResolverType=real.OpResolverType, load_delegate=real.load_delegate)
    absent(monkeypatch, "ai_edge_litert", "tflite_runtime")
    provide(monkeypatch, "tensorflow.lite", Interpreter=warning_interpreter, experimental=experimental)
    session = LitertSession(make_tflite())
    assert session.engine.startswith("tensorflow ")
    assert_tiny(session.run(GREY))


def test_an_old_wheel_under_numpy_2_is_explained(make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch) -> None:
    def interpreter(**_: Any) -> Any:
        try:
            raise ImportError("numpy.core.multiarray failed to import")
        except ImportError as error:
            raise SystemError(
                "<built-in method CreateWrapperFromFile> returned a result with an exception set"
            ) from error

    absent(monkeypatch, "ai_edge_litert", "tensorflow")
    provide(
        monkeypatch,
        "tflite_runtime.interpreter",
        Interpreter=interpreter,
        OpResolverType=ai_edge_litert.interpreter.OpResolverType,
    )
    with pytest.raises(InputError, match=r"was built for numpy 1 .*pip install 'solov2-edge\[tflite\]', or numpy<2"):
        LitertSession(make_tflite())


def test_a_broken_package_is_not_called_missing(make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(path: str) -> Any:
        if path.startswith("ai_edge_litert"):
            raise ImportError("libpywrap.so: cannot open shared object file")
        raise ModuleNotFoundError("no such module", name=path.split(".")[0])

    monkeypatch.setattr(litert_package, "importlib", SimpleNamespace(import_module=import_module))
    with pytest.raises(SolovEdgeError, match=r"ai-edge-litert is installed but cannot be imported \(libpy") as caught:
        LitertSession(make_tflite())
    assert not isinstance(caught.value, MissingDependencyError)
