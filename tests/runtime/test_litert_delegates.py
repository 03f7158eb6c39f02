from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ai_edge_litert.interpreter
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import litert_gpu, litert_network
from solov2_edge.runtime.litert_delegates import (
    DEFAULT_REQUESTS,
    Request,
    count_nodes,
    count_parts,
    delegate_requests,
    nodes_taken,
)
from solov2_edge.runtime.litert_gpu import GpuNetwork
from solov2_edge.runtime.litert_graph import Graph
from solov2_edge.runtime.litert_network import InterpreterNetwork
from solov2_edge.runtime.litert_package import LitertPackage, find_package
from solov2_edge.runtime.litert_tensors import Tensor


def names(requests: tuple[Request, ...]) -> list[str]:
    return [request.name for request in requests]


def test_requests(tmp_path: Path) -> None:
    assert delegate_requests(None, None) == DEFAULT_REQUESTS
    assert names(delegate_requests("cpu", None)) == names(delegate_requests("XNNPACK", {})) == ["xnnpack"]
    assert names(delegate_requests(("gpu", "cpu"), None)) == ["gpu", "xnnpack"]
    requests = delegate_requests(["gpu", "xnnpack"], {"GPU": {"enforce_f32": True}})
    assert [dict(request.options) for request in requests] == [{"enforce_f32": True}, {}]
    library = tmp_path / "libOther.so.1"
    library.touch()
    assert names(delegate_requests(str(library), {str(library): {"device": "usb"}})) == [str(library)]
    assert names(delegate_requests("libedgetpu.so.1", None)) == ["libedgetpu.so.1"]  # looked up by the system
    assert delegate_requests(str(library), None)[0].library


@pytest.mark.parametrize(
    ("providers", "options", "message"),
    [
        ("cuda", None, "unknown provider 'cuda'; expected xnnpack, builtin, cpu-reference, gpu, or the path"),
        ("nnapi", None, "nnapi is Android's own and deprecated"),
        ("/nowhere/libedge.so", None, "there is no delegate library at /nowhere/libedge.so"),
        ((), None, "must name at least one"),
        (("cpu", "xnnpack"), None, "name one twice"),
        (7, None, "providers must be a name such as xnnpack, or a fallback list of names, got 7"),
        ((7,), None, "a provider is a name such as xnnpack or gpu, got 7"),
        ("xnnpack", {"gpu": {"enforce_f32": True}}, "provider_options hold gpu"),
        ("xnnpack", {"xnnpack": {"flags": 1}}, "xnnpack takes no options, got flags"),
    ],
)
def test_wrong_requests(providers: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        delegate_requests(providers, options)


def node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"op_name": name, "inputs": np.array(inputs), "outputs": np.array(outputs)}


def test_nodes_of_parts_are_counted() -> None:
    """A chain 0 -> 1 -> ... -> 5 with a constant 9 used twice; one part has the first two, another the last two."""
    chain = [node("CONV_2D", [place, 9], [place + 1]) for place in range(5)]
    parts = [node("DELEGATE", [0, 9], [2]), node("DELEGATE", [3, 9], [5])]
    operators = chain + parts
    assert (count_nodes(operators), count_parts(operators)) == (5, 2)
    assert nodes_taken(operators) == 4
    assert nodes_taken(operators, start=1) == nodes_taken(operators, stop=1) == 2
    assert nodes_taken(chain) == 0


def test_branches_inside_a_part_count_once() -> None:
    operators = [
        node("CONV_2D", [0], [1]),
        node("RELU", [1], [2]),
        node("LOGISTIC", [1], [3]),
        node("MUL", [2, 3, -1], [4]),
        node("DELEGATE", [0], [4]),
    ]
    assert nodes_taken(operators) == 4


@pytest.fixture
def tiny(tmp_path: Path, tflite_builder: ModuleType) -> tuple[str, Graph]:
    """A network of six nodes and float32 throughout."""
    path = tmp_path / "tiny.tflite"
    arrays = {"scores": np.full((2, 2), 3, np.float32), "features": np.full((2, 2), 5, np.float32)}
    path.write_bytes(tflite_builder.tiny_tflite(arrays, (1, 2, 2, 3), input_name="pixels", input_type="float32"))
    interpreter = ai_edge_litert.interpreter.Interpreter(str(path))
    source = interpreter.get_input_details()[0]["index"]
    outputs = [details["index"] for details in interpreter.get_output_details()]
    return str(path), Graph(
        "serving_default",
        Tensor("pixels", source, "float32", (1, 2, 2, 3)),
        tuple(Tensor(name, index, "float32", (2, 2)) for name, index in zip(arrays, outputs, strict=True)),
    )


def test_a_library_that_is_not_there_or_no_delegate(tiny: tuple[str, Graph], tmp_path: Path) -> None:
    path, graph = tiny
    garbage = tmp_path / "garbage.so"
    garbage.write_bytes(b"not a library")
    for name, message in ((str(garbage), "cannot be used"), ("libsurely_absent.so", "cannot be used")):
        with pytest.raises(InputError, match=message):
            InterpreterNetwork(find_package(), path, graph, Request(name), 1)
    if sys.platform == "linux":
        with pytest.raises(InputError, match=r"libm.so.6 is not a TFLite delegate library"):
            InterpreterNetwork(find_package(), path, graph, Request("libm.so.6"), 1)


def with_library(monkeypatch: pytest.MonkeyPatch, taking: int) -> Mapping[str, Any]:
    """Pretend that a delegate library takes the first ``taking`` nodes; returns what it was given."""
    seen: dict[str, Any] = {}
    real = ai_edge_litert.interpreter.Interpreter

    class Delegated(real):  # type: ignore[misc, valid-type]  # the package has no types
        def __init__(self, *, experimental_delegates: Any = (), **options: Any) -> None:
            self.parts = len(experimental_delegates) if taking else 0
            super().__init__(**options)

        def _get_ops_details(self) -> list[Any]:
            operators = super()._get_ops_details()
            first = [operator for operator in operators if operator["op_name"] != "DELEGATE"][:taking]
            taken = {int(index) for operator in first for index in operator["outputs"]}
            outside = {int(index) for operator in first for index in operator["inputs"]} - taken
            part = node("DELEGATE", sorted(outside), sorted(taken))
            return [*(o for o in operators if o["op_name"] != "DELEGATE"), *[part] * self.parts]

    def load_delegate(self: LitertPackage, library: str, options: Mapping[str, Any]) -> Any:
        seen.update(library=library, options=options)
        return SimpleNamespace()

    monkeypatch.setattr(ai_edge_litert.interpreter, "Interpreter", Delegated)
    monkeypatch.setattr(LitertPackage, "load_delegate", load_delegate)
    return seen


def test_a_library_that_takes_a_part(tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    path, graph = tiny
    seen = with_library(monkeypatch, 4)
    network = InterpreterNetwork(find_package(), path, graph, Request("libtpu.so", {"device": "usb"}), 1)
    assert network.providers == ("libtpu.so (4 of 5 nodes)", "built-in kernels (1 of 5 nodes)")
    assert seen == {"library": "libtpu.so", "options": {"device": "usb"}}


def test_a_library_that_takes_nothing_is_an_error(tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    path, graph = tiny
    with_library(monkeypatch, 0)
    with pytest.raises(InputError, match=r"libtpu\.so was asked for, but takes none of the graph's 5 nodes"):
        InterpreterNetwork(find_package(), path, graph, Request("libtpu.so"), 1)


def test_xnnpack_that_takes_nothing_is_an_error(tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    path, graph = tiny
    monkeypatch.setattr(litert_network, "nodes_taken", lambda *_, **__: 0)
    with pytest.raises(InputError, match="XNNPACK was asked for, but takes none"):
        InterpreterNetwork(find_package(), path, graph, Request("xnnpack"), 1)
    assert InterpreterNetwork(find_package(), path, graph, Request("builtin"), 1).providers


class Buffer:
    """One of CompiledModel's buffers."""

    def __init__(self) -> None:
        self.array = np.zeros(0)

    def write(self, array: Any) -> None:
        self.array = array

    def read(self, count: int, dtype: Any) -> Any:
        return self.array.astype(dtype).reshape(-1)[:count]


class Compiled:
    """LiteRT's CompiledModel, with an adapter that says what a real one said."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def is_fully_accelerated(self) -> bool:
        return self.whole

    def create_input_buffer_by_name(self, signature: str, name: str) -> Buffer:
        assert (signature, name) == ("serving_default", "pixels")
        return Buffer()

    def create_output_buffer_by_name(self, signature: str, name: str) -> Buffer:
        assert name in ("scores", "features")
        return Buffer()

    def run_by_name(self, signature: str, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        for factor, name in enumerate(outputs, start=1):
            outputs[name].array = np.full((2, 2), inputs["pixels"].array.max() * factor)

    def close(self) -> None:
        self.whole = False


def with_gpu(monkeypatch: pytest.MonkeyPatch, open_model: Callable[[], Compiled]) -> list[Any]:
    from ai_edge_litert import compiled_model as real

    seen: list[Any] = []

    def from_file(path: str, *, options: Any) -> Compiled:
        seen.append(options)
        return open_model()

    fake = SimpleNamespace(
        Options=real.Options,
        GpuOptions=real.GpuOptions,
        HardwareAccelerator=real.HardwareAccelerator,
        CompiledModel=SimpleNamespace(from_file=from_file),
    )
    monkeypatch.setattr(litert_gpu, "importlib", SimpleNamespace(import_module=lambda _: fake))
    return seen


def say(text: str) -> None:
    import os

    os.write(2, text.encode())


def test_a_gpu_runs_the_whole_graph(
    tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def open_model() -> Compiled:
        say(
            "INFO: [environment.cc:36] Creating LiteRT environment with options\n"
            "I0000 00:00:1 1 environment.cc:532] Selected adapter: llvmpipe (LLVM 15.0.6, 256 bits), arch=software, "
            "vendor=mesa, backend=Vulkan, adapterType=CPU / Software\n"
        )
        return Compiled(whole=True)

    path, graph = tiny
    seen = with_gpu(monkeypatch, open_model)
    network = GpuNetwork(find_package(), path, graph, {"enforce_f32": True})
    assert network.providers == ("GPU (llvmpipe (LLVM 15.0.6, 256 bits), CPU / Software)",)
    assert seen[0].gpu_options.enforce_f32
    arrays = network.run(np.full((1, 2, 2, 3), 7, np.float32))
    assert [array.tolist() for array in arrays] == [[[7, 7], [7, 7]], [[14, 14], [14, 14]]]
    network.close()
    assert capfd.readouterr() == ("", "")


def test_a_gpu_that_cannot_have_it_all(tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    path, graph = tiny
    with_gpu(monkeypatch, lambda: Compiled(whole=False))
    with pytest.raises(InputError, match=r"has operators that ai-edge-litert .* cannot run on the GPU"):
        GpuNetwork(find_package(), path, graph, {})


def test_a_gpu_that_is_not_there(
    tiny: tuple[str, Graph], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def open_model() -> Compiled:
        say("Warning: Couldn't load Vulkan: libvulkan.so.1: no such file\nERROR: No adapters found\nsomebody else's\n")
        raise RuntimeError("ERROR: [litert_compiled_model.h:1961]")

    path, graph = tiny
    with_gpu(monkeypatch, open_model)
    with pytest.raises(
        InputError, match=r"GPU by ai-edge-litert .*: Couldn't load Vulkan: libvulkan.so.1: no such file; "
    ):
        GpuNetwork(find_package(), path, graph, {})
    assert capfd.readouterr() == ("", "somebody else's\n")


def test_gpu_options_and_signatures_are_checked(tiny: tuple[str, Graph]) -> None:
    path, graph = tiny
    with pytest.raises(InputError, match=r"gpu takes the options enforce_f32, .*, got \['precision'\]"):
        GpuNetwork(find_package(), path, graph, {"precision": "fp32"})
    with pytest.raises(InputError, match="has no signature, which gpu needs"):
        GpuNetwork(find_package(), path, Graph(None, graph.source, graph.outputs), {})
