"""A small network quantised for real: what comes out, how near it stays, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from solov2_edge.converters.parity import normalised
from solov2_edge.converters.probes import drawn_frame
from solov2_edge.converters.tflite_census import Census, require_integers, take_census
from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.converters.tflite_graph import read_graph
from solov2_edge.converters.tflite_quantise import count_for, quantise, quantise_layers
from solov2_edge.converters.tflite_recipes import make_plan
from solov2_edge.errors import GateError, InputError

Outputs = dict[str, NDArray[np.float32]]
# Distances of quantised outputs, in dB of signal to noise; 20 dB are 10 % of the signal's size.
DYNAMIC_FLOOR, INT8_FLOOR = 20.0, 15.0


def pictures() -> Iterator[NDArray[np.uint8]]:
    """What calibration pictures hold between them: objects in many places and of several contrasts."""
    drawn = drawn_frame(64, 96).astype(np.int32)
    for step in range(24):
        part = np.roll(drawn, (step * 7, step * 11), (0, 1)) - 124
        yield (124 + part * (step % 4 + 1) // 4).clip(0, 255).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def small(tflite_plain: Any) -> bytes:
    flatbuffer: bytes = tflite_plain.flatbuffer
    return flatbuffer


def run(flatbuffer: bytes, batch: NDArray[Any]) -> Outputs:
    runner = Interpreter(model_content=flatbuffer, num_threads=1).get_signature_runner()
    outputs: Outputs = runner(image=batch)
    return outputs


def decibels(exact: bytes, quantised: bytes) -> dict[str, float]:
    """Signal to noise per output, on a picture no calibration saw."""
    frame = np.roll(drawn_frame(64, 96), (31, 17), (0, 1))[None]
    want, got = run(exact, frame), run(quantised, frame)
    return {
        name: 10 * float(np.log10((want[name] ** 2).sum() / ((want[name] - got[name]) ** 2).sum())) for name in want
    }


def test_dynamic_int8_keeps_every_output_sane(small: bytes) -> None:
    said: list[str] = []
    dynamic = quantise(small, "int8-dynamic", log=said.append)
    census = take_census(dynamic)
    assert census == Census(int8=0, int16=0, dynamic=census.layers - 1, floating=1, other=0)
    assert said == [f"int8-dynamic: {census}, {len(dynamic) / 2**20:.1f} MiB"]
    assert set(read_facts(dynamic).ops) == set(read_facts(small).ops)  # GroupNorm as it was
    distances = decibels(small, dynamic)
    assert min(distances.values()) > DYNAMIC_FLOOR, distances


def test_static_int8_runs_in_integers_and_keeps_its_borders(small: bytes) -> None:
    static = quantise(small, "int8", pictures)
    census = take_census(static)
    assert census.floating == 1
    assert census.dynamic == 10  # class scores and kernels on five levels
    assert census.int8 == census.layers - 11 > 30
    distances = decibels(small, static)
    assert min(distances.values()) > INT8_FLOOR, distances
    assert read_facts(static).signatures == read_facts(small).signatures
    batch = next(pictures())
    assert {name: (a.dtype, a.shape) for name, a in run(static, batch).items()} == {
        name: (a.dtype, a.shape) for name, a in run(small, batch).items()
    }


def test_quantising_twice_gives_the_same_bytes(small: bytes) -> None:
    counts = count_for(small, pictures())
    first = quantise(small, "int8", pictures)
    assert first == quantise(small, "int8", counts=counts)
    assert first != quantise(small, "int8", counts=counts, method="mse")


def test_int16_activations_are_nearer_than_int8(small: bytes) -> None:
    counts = count_for(small, pictures())
    wide = quantise(small, "int16x8", counts=counts)
    assert take_census(wide).int16 > take_census(wide).layers / 2
    assert (
        decibels(small, wide)["mask_features"]
        > decibels(small, quantise(small, "int8", counts=counts))["mask_features"]
    )


def test_islands_are_kept(small: bytes) -> None:
    names = [layer.name for layer in read_graph(small)[1].layers]
    counts = count_for(small, pictures())
    everything = take_census(quantise(small, "int8", counts=counts, islands={}))
    assert everything.int8 == len(names)
    with pytest.raises(InputError, match="no layer 'conv99'"):
        quantise(small, "int8", counts=counts, islands={"conv99": "float"})
    some = quantise(small, "int8", counts=counts, islands={names[3]: "float", names[5]: "dynamic"})
    assert take_census(some) == Census(int8=len(names) - 2, int16=0, dynamic=1, floating=1, other=0)


def test_positions_of_deformable_convolutions_stay_float(tflite_dcn: Any) -> None:
    deformable, spec = tflite_dcn.flatbuffer, tflite_dcn.model.spec

    def tensors() -> Iterator[NDArray[np.float32]]:
        for picture in pictures():
            yield normalised(picture, spec)

    _, graph = read_graph(deformable)
    plan = make_plan(graph, "integer")
    positioning = [name for name, reason in plan.reasons.items() if reason == "it positions samples"]
    assert len(positioning) == 3 + 2 * 5  # of three stages, of two towers on five levels
    for precision, batches in (("int8-dynamic", None), ("int8", tensors)):
        quantised = quantise(deformable, precision, batches)
        model, after = read_graph(quantised)
        for operator in after.operators:
            if operator.kind == "GATHER":
                assert model.subgraphs[0].tensors[operator.inputs[0]].type == 0, "the gathered map must be float32"
        floats = ("FLOOR", "SUB", "GATHER", "MUL")
        before_counts, after_counts = read_facts(deformable).ops, read_facts(quantised).ops
        assert {kind: after_counts.get(kind) for kind in floats} == {kind: before_counts.get(kind) for kind in floats}


def test_a_float_file_called_int8_is_refused(small: bytes) -> None:
    with pytest.raises(GateError, match="called int8 must"):
        require_integers(take_census(small), "int8")
    layers = [layer.name for layer in read_graph(small)[1].layers]
    with pytest.raises(GateError, match=r"called int8-dynamic must .* in float"):
        quantise(small, "int8-dynamic", islands=dict.fromkeys(layers[1:], "float"))
    assert quantise_layers(small, "int8", dict.fromkeys(layers, "float"), {}) == small


def test_contradictions_are_refused(small: bytes) -> None:
    for precision in ("int8", "int16x8"):
        with pytest.raises(InputError, match=f"{precision} needs calibration pictures"):
            quantise(small, precision)
    with pytest.raises(InputError, match="takes no calibration"):
        quantise(small, "int8-dynamic", pictures)
    with pytest.raises(InputError, match="precision must be one of int8-dynamic, int8, int16x8"):
        quantise(small, "int4", pictures)
    with pytest.raises(InputError, match="method must be one of"):
        quantise(small, "int8", pictures, method="best")
    with pytest.raises(InputError, match="expected a TFLite model"):
        quantise(b"no model at all", "int8-dynamic")
    with pytest.raises(InputError, match="needs pictures, got none"):
        quantise(small, "int8", lambda: iter(()))
    with pytest.raises(InputError, match=r"takes uint8 \(1, 64, 96, 3\), a calibration batch is float32"):
        quantise(small, "int8", lambda: iter([np.zeros((1, 64, 96, 3), np.float32)]))
    with pytest.raises(InputError, match="of another network"):
        quantise(small, "int8", counts={})


def test_a_quantised_file_is_not_quantised_again(small: bytes) -> None:
    with pytest.raises(InputError, match="already quantised"):
        quantise(quantise(small, "int8-dynamic"), "int8", pictures)


def test_nothing_of_the_library_reaches_the_terminal(small: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    quantise(small, "int8", pictures)
    assert capfd.readouterr() == ("", "")


def test_int16_says_that_it_is_slow_on_a_cpu(small: bytes) -> None:
    said: list[str] = []
    quantise(small, "int16x8", pictures, log=said.append)
    assert said[0].startswith("int16x8 is for NPUs")
    assert said[-1].startswith("int16x8: of ")
