"""Reading what a sensitivity analysis found: one entry per layer, or per block of layers."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from solov2_edge.demos.conversion_data import LayerCost
from solov2_edge.errors import InputError, require

__all__ = ["read_sensitivity"]

WANTED = 'a list of {"layer": name, "drop": points or null, "sqnr_db": dB or null, "macs": count or null}'


def read_sensitivity(path: str | os.PathLike[str]) -> tuple[LayerCost, ...]:
    """Read a JSON list of layers, or an object that holds it under ``layers``.

    Raises:
        InputError: the file cannot be read, or is no such list.
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as stream:
            data: Any = json.load(stream)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}; give {WANTED}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON ({error}); give {WANTED}") from error
    entries: Any = data.get("layers") if isinstance(data, dict) else data
    require(isinstance(entries, list) and len(entries) > 0, f"{name} must hold {WANTED}")
    return tuple(_layer(entry, name) for entry in entries)


def _layer(entry: Any, name: str) -> LayerCost:
    require(
        isinstance(entry, dict) and isinstance(entry.get("layer"), str), f"{name} must hold {WANTED}; got {entry!r}"
    )
    figures = {
        key: _number(entry.get(key), f"{name}: {key} of {entry['layer']}") for key in ("drop", "sqnr_db", "macs")
    }
    drop, sqnr_db, macs = figures.values()
    require(
        drop is not None or sqnr_db is not None, f"{name}: {entry['layer']} has neither drop nor sqnr_db; give {WANTED}"
    )
    return LayerCost(entry["layer"], drop, sqnr_db, None if macs is None else round(macs))


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    require(good, f"{what} must be a number or null, got {value!r}")
    return float(value)
