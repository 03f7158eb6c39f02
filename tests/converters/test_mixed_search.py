"""The search's decisions and record, on a pretended network whose layers add known noise and cost known AP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.converters import mixed_search
from solov2_edge.converters.held_out import HeldOut
from solov2_edge.converters.mixed_search import MixedSearch
from solov2_edge.converters.quantisable import Layer
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import OUTPUT_NAMES
from solov2_edge.runtime.evaluate import Evaluation
from solov2_edge.runtime.matches import CategoryMatches, Matches

HARM = {"backbone.conv1": 0.1, "neck.fpn_convs.0": 1.0, "neck.fpn_convs.1": 0.3, "mask_head.conv_cls": 0.05}
HELD_OUT = HeldOut(tuple(Path(f"{n}.png") for n in range(12)), Path(), Path("a.json"), "0" * 64)
MATCHES = Matches(
    tuple(range(12)),
    (CategoryMatches(np.arange(12), np.ones((1, 12), bool), np.ones((1, 12), bool), np.ones(12, np.int64)),),
    np.linspace(0, 1, 101),
)


@dataclass
class Network:
    """Its files are the names of the layers kept float."""

    facts: dict[str, Any] = field(default_factory=lambda: {"method": "mse"})
    suffix: str = ".onnx"
    layers: tuple[Layer, ...] = tuple(Layer(name, 100) for name in HARM)

    def build(self, keep_float: frozenset[str] = frozenset()) -> bytes:
        return json.dumps(sorted(keep_float)).encode()

    def still_int8(self, keep_float: frozenset[str]) -> bool:
        return len(keep_float) <= 2


class Trials:
    engine = "pretended 1"
    evaluated: int

    def __init__(self, suffix: str, floating: bytes, held_out: HeldOut) -> None:
        assert sorted(json.loads(floating)) == sorted(HARM)
        type(self).evaluated = 0
        self.exact = self._of(floating)

    def _of(self, data: bytes) -> Evaluation:
        lost = sum(harm for name, harm in HARM.items() if name not in json.loads(data))
        return Evaluation(50 - lost, 0, 0, 0, 0, 0, 12, 12, 12, 100, MATCHES)

    def evaluation(self, data: bytes) -> Evaluation:
        type(self).evaluated += 1
        return self._of(data)

    def noise(self, data: bytes) -> dict[str, float]:
        noise = sum(harm for name, harm in HARM.items() if name not in json.loads(data))
        return dict.fromkeys(OUTPUT_NAMES, 30 - 10 * float(np.log10(noise)))

    def milliseconds(self, files: dict[str, bytes]) -> dict[str, float]:
        return {name: 10.0 + len(json.loads(data)) for name, data in files.items()}


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_search, "Trials", Trials)


def test_the_harmful_layer_stays_float_and_the_record_says_so() -> None:
    lines: list[str] = []
    chosen = MixedSearch(HELD_OUT, 0.5, lines.append)(Network())
    assert chosen.layers == {"neck.fpn_convs.0"}
    record = chosen.record
    assert (record["kept_float"], record["kept_share"], record["chosen_by"]) == (["neck.fpn_convs.0"], 0.25, "layer")
    assert record["drop"] == pytest.approx(0.45)
    assert (record["drop_all_int8"], record["ap_float32"]) == (pytest.approx(1.45), 50)
    assert record["pictures"] == {"count": 12, "sha256": "0" * 64}
    assert record["milliseconds"] | {"cpu": ""} == {"chosen": 11, "all_int8": 10, "float32": 14, "cpu": ""}
    assert (record["method"], record["engine"]) == ("mse", "pretended 1")
    assert Trials.evaluated == record["tried"] == 2  # no file is measured twice
    assert json.loads(json.dumps(record)) == record
    assert lines[0] == "all int8: 1.45 points of AP lost on 12 pictures, 0.5 are allowed"
    assert "2/4 neck.fpn_convs.0 alone in int8: class scores 30, kernels 30, mask features 30 dB" in lines


def test_where_int8_will_do_nothing_else_is_measured() -> None:
    chosen = MixedSearch(HELD_OUT, 2.0)(Network())
    assert (chosen.layers, chosen.record["kept_float"], chosen.record["tried"]) == (frozenset(), [], 1)
    assert chosen.record["milliseconds"]["chosen"] == chosen.record["milliseconds"]["all_int8"]


def test_large_networks_are_looked_at_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_search, "MOST_LAYERS", 3)
    chosen = MixedSearch(HELD_OUT, 0.5)(Network())
    assert chosen.record["chosen_by"] == "block"
    assert chosen.record["kept_float"] == ["neck.fpn_convs.0", "neck.fpn_convs.1"]


def test_a_file_for_another_engine_is_not_timed_here() -> None:
    assert MixedSearch(HELD_OUT, 0.5)(Network({"target": "tensorrt"})).record["milliseconds"] is None


def test_a_budget_beyond_half_of_the_network_is_a_gate() -> None:
    with pytest.raises(GateError, match=r"the most that may be, 2 groups .* loses 0\.15 points of AP, where 0\.1"):
        MixedSearch(HELD_OUT, 0.1)(Network())


def test_a_budget_needs_annotations_and_a_sense() -> None:
    with pytest.raises(InputError, match="needs annotated pictures"):
        MixedSearch(HeldOut(HELD_OUT.pictures, Path(), None, ""), 0.5)
    with pytest.raises(InputError, match="at least 0 points of AP, got -1"):
        MixedSearch(HELD_OUT, -1)
