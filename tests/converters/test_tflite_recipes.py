"""Plans over small graphs drawn by hand: what runs in integers, what stays float, and why."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from solov2_edge.converters.tflite_graph import Graph, read_graph
from solov2_edge.converters.tflite_recipes import make_plan
from solov2_edge.errors import InputError

MAP = (1, 8, 8, 4)


class Drawn:
    """A graph under construction; every operator gives one tensor and is known by that tensor's name."""

    def __init__(self, builder: ModuleType) -> None:
        self.model: Any = builder.Model()
        self.tensors = {"image": self.model.tensor("image", MAP)}

    def operator(
        self, name: str, kind: str, *inputs: str, shape: tuple[int, ...] = MAP, dtype: str = "float32"
    ) -> None:
        self.tensors[name] = self.model.tensor(name, shape, dtype)
        self.model.operator(kind, [self.tensors[i] for i in inputs], [self.tensors[name]])

    def constant(self, name: str, shape: tuple[int, ...]) -> str:
        self.tensors[name] = self.model.constant(name, np.ones(shape, np.float32))
        return name

    def conv(self, name: str, source: str, shape: tuple[int, ...] = MAP) -> None:
        self.operator(name, "CONV_2D", source, self.constant(f"{name}.weight", (4, 1, 1, 4)), shape=shape)

    def graph(self, *outputs: str) -> Graph:
        data = self.model.finish({"image": 0}, {name: self.tensors[name] for name in outputs})
        return read_graph(data)[1]


@pytest.fixture
def drawn(tflite_builder: ModuleType) -> Drawn:
    return Drawn(tflite_builder)


def carriers(graph: Graph, islands: dict[str, str] | None = None, main: str = "integer") -> set[str]:
    plan = make_plan(graph, main, islands)
    return {graph.names[graph.operators[index].outputs[0]] for index in plan.carriers}


def test_layers_are_numbered_in_the_order_of_execution(drawn: Drawn) -> None:
    for name, source in (("a", "image"), ("b", "a"), ("c", "b")):
        drawn.conv(name, source)
    graph = drawn.graph("c")
    assert [(layer.name, layer.hint) for layer in graph.layers] == [("conv00", "a"), ("conv01", "b"), ("conv02", "c")]
    assert graph.layers[0].shape == MAP
    assert graph.layers[0].weights == (4, 1, 1, 4)


def test_the_first_layer_is_float_and_the_last_gives_floats(drawn: Drawn) -> None:
    drawn.operator("scaled", "MUL", "image", drawn.constant("factor", (1,)))
    drawn.operator("bordered", "PAD", "scaled")
    drawn.conv("first", "bordered")
    drawn.conv("middle", "first")
    drawn.conv("last", "middle")
    drawn.operator("flat", "RESHAPE", "last", shape=(64, 4))
    drawn.operator("scores", "LOGISTIC", "flat", shape=(64, 4))
    graph = drawn.graph("scores")
    assert make_plan(graph, "integer").layers == {"conv00": "float", "conv01": "integer", "conv02": "dynamic"}
    assert make_plan(graph, "dynamic").layers == {"conv00": "float", "conv01": "dynamic", "conv02": "dynamic"}
    assert set(make_plan(graph, "integer", {}).layers.values()) == {"integer"}
    assert carriers(graph) == set()
    assert carriers(graph, {}) == {"bordered"}


def test_carriers_follow_the_layers_around_them(drawn: Drawn) -> None:
    drawn.conv("a", "image")
    drawn.operator("pooled", "MAX_POOL_2D", "a", shape=(1, 4, 4, 4))
    drawn.operator("grown", "RESIZE_BILINEAR", "pooled")
    drawn.operator("sum", "ADD", "a", "grown")
    drawn.operator("bordered", "PAD", "sum", shape=(1, 10, 10, 4))
    drawn.conv("b", "bordered")
    drawn.operator("end", "RESIZE_BILINEAR", "b", shape=(1, 16, 16, 4))
    graph = drawn.graph("end")
    assert carriers(graph, {}) == {"pooled", "grown", "sum", "bordered", "end"}
    assert carriers(graph, {"conv00": "float"}) == {"pooled", "grown", "sum", "bordered", "end"}
    assert carriers(graph, {"conv01": "float"}) == {"pooled", "grown", "sum", "bordered"}
    assert carriers(graph, {}, main="dynamic") == set()


def test_group_norm_stays_float_and_a_sum_of_its_maps_does_not(drawn: Drawn) -> None:
    drawn.conv("a", "image")
    for name in ("left", "right"):  # two normalised maps: product, then a sum with a computed shift per channel
        drawn.operator(f"{name}.mean", "MEAN", "a", shape=(1, 1, 1, 4))
        drawn.operator(f"{name}.scaled", "MUL", "a", f"{name}.mean")
        drawn.operator(name, "ADD", f"{name}.scaled", f"{name}.mean")
    drawn.operator("grown", "RESIZE_BILINEAR", "right")
    drawn.operator("sum", "ADD", "left", "grown")
    drawn.conv("b", "sum")
    assert carriers(drawn.graph("b"), {}) == {"grown", "sum"}


def test_a_sum_of_two_float_maps_is_converted_once_behind_it(drawn: Drawn) -> None:
    for name in ("a", "b", "c"):
        drawn.operator(name, "MUL", "image", "image")
    drawn.operator("ab", "ADD", "a", "b")
    drawn.operator("abc", "ADD", "ab", "c")
    drawn.conv("d", "abc")
    assert carriers(drawn.graph("d"), {}) == set()


def test_what_positions_samples_is_never_quantised(drawn: Drawn) -> None:
    drawn.conv("features", "image")
    drawn.conv("offsets", "features")
    drawn.operator("y", "ADD", "offsets", "offsets")
    drawn.operator("clamped", "RELU", "y")
    drawn.operator("whole", "FLOOR", "clamped")
    drawn.operator("rows", "CAST", "whole", dtype="int32")
    drawn.operator("gathered", "GATHER", "features", "rows")
    drawn.operator("fraction", "SUB", "clamped", "whole")
    drawn.operator("weighted", "MUL", "gathered", "fraction")
    drawn.conv("main", "weighted")
    drawn.conv("last", "main")
    graph = drawn.graph("last")
    plan = make_plan(graph, "integer", dict.fromkeys(("conv00", "conv01", "conv02", "conv03"), "integer"))
    assert plan.layers == {"conv00": "integer", "conv01": "float", "conv02": "integer", "conv03": "integer"}
    assert plan.reasons == {"conv01": "it positions samples"}
    assert carriers(graph, {}) == set()
    assert make_plan(graph, "dynamic", {}).layers["conv01"] == "float"


def test_a_layer_over_one_position_stays_float(drawn: Drawn) -> None:
    drawn.conv("a", "image")
    drawn.operator("mean", "MEAN", "a", shape=(1, 1, 1, 4))
    drawn.conv("statistics", "mean", shape=(1, 1, 1, 4))
    drawn.operator("scaled", "MUL", "a", "statistics")
    drawn.conv("b", "scaled")
    for main in ("integer", "dynamic"):
        plan = make_plan(drawn.graph("b"), main, {})
        assert plan.layers == {"conv00": main, "conv01": "float", "conv02": main}
        assert plan.reasons == {"conv01": "it works on a single position"}


def test_islands_must_name_a_layer_and_a_mode(drawn: Drawn) -> None:
    drawn.conv("a", "image")
    graph = drawn.graph("a")
    with pytest.raises(InputError, match="no layer 'conv7'"):
        make_plan(graph, "integer", {"conv7": "float"})
    with pytest.raises(InputError, match="one of integer, dynamic, float, got 'int4'"):
        make_plan(graph, "integer", {"conv00": "int4"})


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="expected a TFLite model"):
        read_graph(b"something else")
    with pytest.raises(InputError, match="damaged"):
        read_graph(b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64)
