"""A named variant with some of its fields changed: the paper's ablations, and networks of other widths.

Standard library only.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import variant

__all__ = ["CHANGEABLE", "add_change_argument", "changed_variant"]

# What shapes the network and is independent of the data; sizes of pictures have options of their own.
CHANGEABLE = (
    "kernel_size",
    "mask_channels",
    "kernel_coordinates",
    "feature_coordinates",
    "mask_features",
    "mask_width",
    "mask_dcn",
    "tower_depth",
    "tower_width",
    "tower_dcn",
    "tower_dcn_convs",
    "pyramid_width",
    "norm_groups",
)
_SWITCH = {"on": True, "true": True, "off": False, "false": False}


def add_change_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--set``."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="FIELD=VALUE",
        help="change a field of the variant, for example kernel_size=3, mask_channels=64, kernel_coordinates=off, "
        "feature_coordinates=off or mask_features=separate; may be given several times",
    )


def changed_variant(name: str, changes: Sequence[str], class_names: tuple[str, ...] | None = None) -> ModelSpec:
    """Return the named variant with fields changed; its name says which.

    Args:
        name: a key of ``variants.VARIANTS``.
        changes: ``FIELD=VALUE`` each, of :data:`CHANGEABLE`.
        class_names: class names in channel order; default: the variant's own.

    Raises:
        InputError: no such variant or field, a field given twice, or values that make no network.
    """
    spec = variant(name, class_names)
    values: dict[str, Any] = {}
    for change in changes:
        field, sign, text = (part.strip() for part in change.partition("="))
        require(bool(sign and text), f"--set {change}: expected FIELD=VALUE, for example kernel_size=3")
        if field not in CHANGEABLE:
            close = difflib.get_close_matches(field, CHANGEABLE, n=2, cutoff=0.5) or CHANGEABLE
            raise InputError(f"--set {change}: {field!r} is no field that can be changed; expected {', '.join(close)}")
        require(field not in values, f"--set {field} is given twice; leave one out")
        values[field] = _value(field, text, getattr(spec, field))
    different = {field: value for field, value in values.items() if value != getattr(spec, field)}
    if not different:
        return spec
    told = "+".join([name, *(f"{field}={_told(value)}" for field, value in different.items())])
    return replace(spec, name=told, **different)


def _value(field: str, text: str, usual: Any) -> Any:
    """Return ``text`` as what the field holds: on or off, a whole number, or a word."""
    if isinstance(usual, bool):
        require(text.lower() in _SWITCH, f"--set {field}={text}: expected on or off")
        return _SWITCH[text.lower()]
    if isinstance(usual, int):
        require(text.isascii() and text.isdecimal() and len(text) < 6, f"--set {field}={text}: expected a whole number")
        return int(text)
    return text


def _told(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
