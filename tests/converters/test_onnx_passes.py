import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from solov2_edge.converters.onnx_passes import GraphPass, check_size, passes_for, run_passes, strip_notes
from solov2_edge.converters.probes import Probes
from solov2_edge.errors import GateError


@pytest.fixture(scope="module")
def probes(plain):
    return Probes(plain.model, plain.manifest.input)


@pytest.fixture
def graph(plain):
    return onnx.load(plain.path)


def fold_coordinates_wrongly(model):
    """What a real optimiser did: coordinate maps folded to -1."""
    for weight in model.graph.initializer:
        if weight.name.startswith("coordinates"):
            array = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(np.full_like(array, -1), weight.name))
    return model


def break_an_edge(model):
    model.graph.node[-1].input[0] = "nowhere"
    return model


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (fold_coordinates_wrongly, "after the bad pass: .*kernels"),
        (break_an_edge, "cannot run the graph after the bad"),
    ],
)
def test_a_pass_that_breaks_the_graph_is_named(breakage, message, graph, probes):
    said = []
    steps = (GraphPass("a good pass", strip_notes, "fp32"), GraphPass("the bad pass", breakage, "fp32"))
    with pytest.raises(GateError, match=message):
        run_passes(graph, steps, probes, said.append)
    assert len(said) == 1
    assert said[0].startswith("a good pass:")


def test_weights_stored_twice_are_refused(graph):
    numbers = sum(numpy_helper.to_array(weight).size for weight in graph.graph.initializer)
    check_size(graph, numbers, 4)
    tower = next(w for w in graph.graph.initializer if "cls_convs.0" in w.name and len(w.dims) == 4)
    tower.CopyFrom(numpy_helper.from_array(np.zeros((1 << 16, 16), np.float32), tower.name))
    with pytest.raises(GateError, match=r"stored more than once \(largest: .*cls_convs.0"):
        check_size(graph, numbers, 4)


def test_notes_of_the_exporting_machine_are_gone(plain):
    model = onnx.load(plain.path)
    data = plain.path.read_bytes()
    assert b"stack_trace" not in data
    assert b".py" not in data
    assert not model.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_float16_is_the_last_pass():
    assert {step.precision for step in passes_for("fp32")} == {"fp32"}
    assert [step.precision for step in passes_for("fp16")] == [s.precision for s in passes_for("fp32")] + ["fp16"]
