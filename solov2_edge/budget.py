"""An accuracy budget for ``convert``: which options say it, and what is printed of how it was met."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solov2_edge.choices import MIXABLE
from solov2_edge.errors import require

if TYPE_CHECKING:
    from torch import Tensor

    from solov2_edge.converters.calibration import Calibration
    from solov2_edge.converters.mixed_search import MixedSearch

__all__ = ["add_budget_arguments", "check_budget", "check_layers", "describe_quantisation", "mixed_search"]

SHOWN = 4  # names of float layers on a line; the manifest has all
# Keys of a record of mixed precision that its sentences say, or that only machines need.
SAID = frozenset(
    (
        *("kept_float", "kept_share", "chosen_by", "max_drop", "drop", "drop_interval", "drop_all_int8", "ap_float32"),
        *("pictures", "doubt", "tried", "engine", "milliseconds"),
    )
)


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--max-drop`` and what it needs, and ``--keep-float``."""
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="onnx and tflite int8: keep the cheapest layers float with which mask AP on validation pictures falls no "
        "further below float32; exit 3 and no file where that cannot be met",
    )
    parser.add_argument(
        "--val-annotations",
        type=Path,
        metavar="PATH",
        help="COCO json, LabelMe or YOLO of the validation pictures, for --max-drop",
    )
    parser.add_argument(
        "--val-images",
        type=Path,
        metavar="DIR",
        help="their folder; none may calibrate, nor be one the finished file is to be judged on",
    )
    parser.add_argument(
        "--keep-float",
        nargs="+",
        metavar="LAYER",
        help="onnx and tflite int8: layers that stay float, by the names that solov2-edge sensitivity prints",
    )


def check_budget(args: argparse.Namespace, conversions: Sequence[tuple[str, str]]) -> None:
    """Refuse what cannot be met, before any work is done.

    Args:
        args: of ``convert``.
        conversions: (format, precision) of every file.

    Raises:
        InputError: an option lacks its others, contradicts one, or concerns none of the files.
    """
    given = [option for option in ("max_drop", "val_annotations", "val_images") if getattr(args, option) is not None]
    option = f"--{given[0].replace('_', '-')}" if given else "--keep-float"
    concerned = any(conversion in MIXABLE for conversion in conversions)
    require(
        concerned or not (given or args.keep_float),
        f"{option} is for --to onnx or tflite with --precision int8, which was not asked; ask for it, or leave the "
        "option out",
    )
    if args.max_drop is None:
        require(
            not given,
            f"{option} is for --max-drop POINTS, which was not asked; leave it out",
        )
    else:
        require(
            len(given) == 3,
            "--max-drop is measured on validation pictures; add --val-annotations JSON and --val-images DIR with "
            "pictures that neither calibrate nor judge the finished file",
        )
        require(
            0 <= args.max_drop < float("inf"),
            f"--max-drop must be a number of AP points of at least 0, got {args.max_drop:g}",
        )
        require(
            not args.keep_float,
            "--keep-float names the float layers and --max-drop searches for them; leave one of them out",
        )


def check_layers(asked: Collection[str], state: Mapping[str, Tensor]) -> None:
    """Refuse names under which a network has no weights; which layers can be integer at all shows later, in its graph.

    Raises:
        InputError: no convolution has such a name; the message has the closest ones.
    """
    known = {
        name.removesuffix(".weight").removesuffix(".conv"): None
        for name, tensor in state.items()
        if tensor.ndim == 4 and name.endswith(".weight")
    }
    for name in asked:
        close = difflib.get_close_matches(name, known, n=2) or list(known)[:2]
        require(
            name in known,
            f"--keep-float: no layer is called {name!r}; expected a name that solov2-edge sensitivity prints, such as "
            f"{' or '.join(close)}",
        )


def mixed_search(args: argparse.Namespace, calibration: Calibration, log: Callable[[str], None]) -> MixedSearch:
    """Open the validation pictures and return what chooses the float layers.

    Raises:
        InputError: a picture cannot be read, or calibrates as well.
    """
    from solov2_edge.converters.held_out import read_held_out
    from solov2_edge.converters.mixed_search import MixedSearch

    held_out = read_held_out(calibration.pictures, args.val_images, args.val_annotations)
    return MixedSearch(held_out, args.max_drop, log)


def describe_quantisation(quantisation: Mapping[str, Any]) -> list[str]:
    """Return lines on a manifest's field ``quantisation``: what stayed float, what it cost, and what that rests on.

    Keys this does not know are listed as they are: a manifest may come from anywhere.
    """
    try:
        lines, known = list(_sentences(quantisation)), SAID
    except (KeyError, TypeError, ValueError, IndexError):
        lines, known = [], frozenset()
    rest = [f"{key.replace('_', ' ')} {value}" for key, value in quantisation.items() if key not in known]
    return [*lines, ", ".join(rest)] if rest else lines


def _sentences(quantisation: Mapping[str, Any]) -> Iterator[str]:
    if "kept_float" in quantisation:
        kept, share = quantisation["kept_float"], quantisation.get("kept_share")
        more = f" and {len(kept) - SHOWN} more" if len(kept) > SHOWN else ""
        part = f", {100 * share:.1f} % of the multiplications" if share else ""
        yield f"kept float: {', '.join(kept[:SHOWN]) or 'no layer'}{more}{part}"
    if "drop" in quantisation:
        ends, tried = quantisation["drop_interval"], quantisation["tried"]
        interval = f" (95 %: {ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
        yield (
            f"drop {quantisation['drop']:.2f} points of AP{interval}, {quantisation['max_drop']:g} allowed, all int8 "
            f"{quantisation['drop_all_int8']:.2f}; on {quantisation['pictures']['count']} validation pictures, "
            f"{tried} {'file' if tried == 1 else 'files'} tried"
        )
    if times := quantisation.get("milliseconds"):
        yield (
            f"network {times['chosen']:.1f} ms, all int8 {times['all_int8']:.1f}, float32 {times['float32']:.1f}: "
            f"medians of runs in turn, {quantisation['engine']} on {times['cpu']}"
        )
