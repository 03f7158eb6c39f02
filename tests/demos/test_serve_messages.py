from __future__ import annotations

import json

import pytest

from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.serve_messages import hello, read_message, refused, state
from solov2_edge.errors import InputError


@pytest.mark.parametrize(
    "message",
    [
        {"seen": 3},
        {"watching": False},
        {"set": {}},
        {"set": {"score_threshold": 0.5, "alpha": 1, "paused": True, "labels": False, "classes": ["nut"]}},
        {"set": {"classes": None}},
    ],
)
def test_what_a_page_may_say(message: dict[str, object]) -> None:
    assert read_message(json.dumps(message)) == message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"\x00", "must be text"),
        ("", "must be JSON"),
        ("{", "must be JSON"),
        ("[" * 20_000, "must be JSON"),
        ("[]", "one entry"),
        ("3", "one entry"),
        ("{}", "one entry"),
        ('{"seen": 1, "watching": true}', "one entry"),
        ('{"seen": true}', "of its type"),
        ('{"seen": 1.5}', "of its type"),
        ('{"watching": 1}', "of its type"),
        ('{"set": []}', "of its type"),
        ('{"stop": {}}', "of its type"),
        ('{"set": {"recording": true}}', "may change"),
        ('{"set": {"x": 1}}', "may change"),
        ('{"set": {"classes": "nut"}}', "list of names"),
        ('{"set": {"classes": [1]}}', "list of names"),
    ],
)
def test_what_it_may_not(text: str | bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_message(text)


def test_the_first_message_names_the_classes() -> None:
    assert json.loads(hello("a camera", Controls(("nut", "bolt")))) == {
        "kind": "hello",
        "title": "a camera",
        "classes": ["nut", "bolt"],
    }
    assert json.loads(refused("no")) == {"kind": "refused", "message": "no"}


def test_the_state_before_the_first_frame() -> None:
    controls = Controls(("nut", "bolt"))
    controls.change(score_threshold=0.25, classes=["bolt"])
    said = json.loads(state(0, None, 0.0, Statistics(state="reopening", message="gone"), controls, picture=False))
    assert said["number"] == said["instances"] == 0
    assert said["counts"] == {}
    assert said["statistics"]["state"] == "reopening"
    assert said["statistics"]["message"] == "gone"
    assert said["settings"]["score_threshold"] == 0.25
    assert said["settings"]["classes"] == ["bolt"]
