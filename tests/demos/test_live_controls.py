from __future__ import annotations

import threading
from time import monotonic

import pytest

from solov2_edge.demos.live_controls import Controls, Settings
from solov2_edge.errors import InputError

NAMES = ("person", "car", "dog")


def test_changes_are_all_or_none() -> None:
    controls = Controls(NAMES)
    before = controls.settings
    with pytest.raises(InputError, match="alpha must lie between 0 and 1, got 2"):
        controls.change(score_threshold=0.5, alpha=2)
    assert controls.settings is before
    now = controls.change(score_threshold=0.5, classes=["car", "dog"])
    assert (now.score_threshold, now.classes) == (0.5, frozenset({"car", "dog"}))
    assert controls.settings is now
    assert now.to_dict()["classes"] == ["car", "dog"]
    assert Settings().to_dict()["classes"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["catt"]}, "no class 'catt'"),
        ({"classes": ["Car"]}, "did you mean 'car'"),
        ({"speed": 3}, "'speed' is not a setting"),
        ({"score_threshold": -0.1}, "score_threshold"),
        ({"score_threshold": True}, "score_threshold"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"paused": 1}, "paused must be True or False"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    controls = Controls(NAMES)
    with pytest.raises(InputError, match=message):
        controls.change(**change)


def test_a_wrong_class_is_refused_at_the_start() -> None:
    with pytest.raises(InputError, match="did you mean 'person'"):
        Controls(NAMES, Settings(classes=frozenset({"persons"})))


def test_the_threshold_moves_in_steps_and_stays_in_range() -> None:
    controls = Controls(NAMES, Settings(score_threshold=0.33))
    assert controls.move_threshold(1).score_threshold == 0.4
    assert controls.move_threshold(-2).score_threshold == 0.3
    assert controls.move_threshold(-20).score_threshold == 0
    assert controls.move_threshold(99).score_threshold == 1


def test_classes_come_one_by_one_and_then_all() -> None:
    controls = Controls(NAMES)
    seen = [controls.next_class().classes for _ in range(5)]
    assert seen == [frozenset({"person"}), frozenset({"car"}), frozenset({"dog"}), None, frozenset({"person"})]


def test_toggles_from_many_threads_are_all_counted() -> None:
    controls = Controls(NAMES)
    threads = [
        threading.Thread(target=lambda: [controls.toggle("labels") for _ in range(101)]) for _ in range(5)
    ]  # 505 in all, an odd number
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controls.settings.labels is False


def test_waiting_ends_with_a_change_or_the_end() -> None:
    controls = Controls(NAMES)
    for act in (lambda: controls.change(labels=False), controls.stop):
        seen = controls.settings
        timer = threading.Timer(0.05, act)
        timer.start()
        start = monotonic()
        controls.wait(seen, 20)
        assert monotonic() - start < 10
        timer.join()
    assert controls.stopped
