"""What a manifest's record of mixed precision reads like, and which options belong together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from solov2_edge.budget import add_budget_arguments, check_budget, describe_quantisation
from solov2_edge.errors import InputError

RECORD: dict[str, Any] = {
    "kept_float": ["a", "b", "c", "d", "e"],
    "kept_share": 0.124,
    "chosen_by": "layer",
    "max_drop": 0.5,
    "drop": 0.31,
    "drop_interval": [-0.2, 0.8],
    "drop_all_int8": 2.4,
    "ap_float32": 50.0,
    "pictures": {"count": 96, "sha256": "0" * 64},
    "doubt": "",
    "tried": 7,
    "engine": "onnxruntime 1",
    "milliseconds": {"chosen": 10.0, "all_int8": 9.0, "float32": 24.0, "cpu": "a processor"},
    "method": "mse",
}


def test_a_record_is_a_few_sentences() -> None:
    assert describe_quantisation(RECORD) == [
        "kept float: a, b, c, d and 1 more, 12.4 % of the multiplications",
        "drop 0.31 points of AP (95 %: -0.20 to 0.80), 0.5 allowed, all int8 2.40; on 96 validation pictures, "
        "7 files tried",
        "network 10.0 ms, all int8 9.0, float32 24.0: medians of runs in turn, onnxruntime 1 on a processor",
        "method mse",
    ]
    nothing = {**RECORD, "kept_float": [], "kept_share": 0.0, "milliseconds": None, "drop_interval": None, "tried": 1}
    assert describe_quantisation(nothing)[:2] == [
        "kept float: no layer",
        "drop 0.31 points of AP, 0.5 allowed, all int8 2.40; on 96 validation pictures, 1 file tried",
    ]


def test_a_record_of_another_kind_is_shown_as_it_is() -> None:
    assert describe_quantisation({}) == []
    assert describe_quantisation({"trained": "8 epochs"}) == ["trained 8 epochs"]
    assert describe_quantisation({"drop": "much", "kept_float": 3}) == ["drop much, kept float 3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-drop", "0.5"], "add --val-annotations JSON and --val-images DIR"),
        (["--max-drop", "0.5", "--val-images", "i"], "add --val-annotations JSON and --val-images DIR"),
        (["--val-annotations", "a"], "--val-annotations is for --max-drop"),
        (["--max-drop", "-1", "--val-images", "i", "--val-annotations", "a"], "at least 0, got -1"),
        (["--max-drop", "nan", "--val-images", "i", "--val-annotations", "a"], "at least 0, got nan"),
        (["--max-drop", "1", "--val-images", "i", "--val-annotations", "a", "--keep-float", "x"], "leave one of them"),
    ],
)
def test_contradictions_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_budget(parsed(words), [("onnx", "fp32"), ("onnx", "int8")])


@pytest.mark.parametrize("conversion", [("onnx", "fp32"), ("tflite", "int16x8"), ("coreml", "int8")])
def test_precisions_it_does_not_concern_are_refused(conversion: tuple[str, str]) -> None:
    for words in (["--max-drop", "1", "--val-images", "i", "--val-annotations", "a"], ["--keep-float", "x"]):
        with pytest.raises(InputError, match=f"{words[0]} is for --to onnx or tflite with --precision int8"):
            check_budget(parsed(words), [conversion])
    check_budget(parsed([]), [conversion])


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_budget_arguments(parser)
    args = parser.parse_args(words)
    assert args.val_images is None or isinstance(args.val_images, Path)
    return args
