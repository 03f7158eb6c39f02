"""The picture of a run's curves: what is drawn where, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.train_curves import PANEL, PANELS, WIDTH, _round_up, draw_curves, write_curves

LOSS, AP = PANELS[0][1][0][1], PANELS[1][1][0][1]


def _rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"epoch": n + 1, "loss": 4 - n, "mask_loss": 3 - n, "class_loss": 1.0, **more} for n in range(count)]


def _column_of(picture: np.ndarray, colour: tuple[int, int, int], x: int) -> float:
    rows = np.flatnonzero((picture[:, x] == colour).all(axis=1))
    return float(rows.mean())


def test_a_falling_loss_is_drawn_falling() -> None:
    picture = draw_curves(_rows(3))
    assert picture.shape == (PANEL, WIDTH, 3)
    first, last = (_column_of(picture, LOSS, x) for x in (71, 745))
    assert first < last, "rows grow downwards"


def test_ap_has_a_panel_of_its_own_once_it_is_measured() -> None:
    rows = [row | {"ap": "" if row["epoch"] == 1 else str(10 * row["epoch"])} for row in _rows(3)]  # as read back
    picture = draw_curves(rows)
    assert picture.shape == (2 * PANEL, WIDTH, 3)
    assert (picture[PANEL:] == AP).all(axis=2).any()


@pytest.mark.parametrize("rows", [_rows(1), _rows(1, ap=0.0), _rows(2, ap=float("nan"))])
def test_short_logs_and_odd_values_are_drawn(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = write_curves(tmp_path, rows)
    picture = cv2.imread(str(path))
    assert path.name == "curves.png"
    assert picture is not None
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (1.0, 1.0), (3.85, 5.0), (23.0, 25.0), (0.06, 0.1), (99, 100)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert _round_up(value) == pytest.approx(top)
