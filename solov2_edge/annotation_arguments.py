"""The arguments of every verb that reads annotations: where they are, and which classes of them count."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from solov2_edge.errors import require

if TYPE_CHECKING:
    from solov2_edge.runtime.class_choice import ClassChoice

__all__ = ["FORMS", "add_annotation_arguments", "class_choice"]

FORMS = "COCO json, LabelMe folder, or YOLO labels (their data.yaml, or a folder with data.yaml or classes.txt)"


def add_annotation_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--annotations``, ``--images``, ``--classes`` and ``--rename``."""
    parser.add_argument("--annotations", type=Path, required=True, metavar="PATH", help=FORMS)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the annotated pictures (default: the json's or LabelMe's own, YOLO's images/ beside labels/)",
    )
    parser.add_argument("--classes", metavar="A,B", help="keep these classes alone, in this order")
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a class before --classes; several that get one name become one class",
    )


def class_choice(args: argparse.Namespace, annotations: Path | None = None) -> ClassChoice:
    """Return what ``--classes`` and ``--rename`` ask for.

    Args:
        args: of a verb with the arguments above.
        annotations: read and searched for every name that was asked for, if given.

    Raises:
        InputError: malformed, or a name is no class.
    """
    from solov2_edge.runtime.class_choice import ClassChoice

    pairs = [entry.partition("=") for entry in args.rename]
    for entry, (_, sign, _) in zip(args.rename, pairs, strict=True):
        require(bool(sign), f"--rename {entry}: expected OLD=NEW, for example --rename car=vehicle")
    keep = () if args.classes is None else tuple(name.strip() for name in args.classes.split(","))
    choice = ClassChoice(keep, tuple((old.strip(), new.strip()) for old, _, new in pairs))
    if annotations is not None and choice:
        from solov2_edge.runtime.annotation_sets import open_annotations

        choice.apply(open_annotations(annotations, args.images).data, str(annotations))
    return choice
