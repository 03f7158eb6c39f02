"""A choice of classes: some renamed or merged, some alone kept; made on COCO instances, whatever they came from."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solov2_edge.errors import InputError, require

__all__ = ["ClassChoice"]

SHOWN = 100  # names in a message


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """Which classes annotations are read with.

    Attributes:
        keep: the classes to keep, in channel order, by their names after renaming; none at all keeps every class.
        renames: (old, new) names; old ones that get the same new name, or that of a class there is, become one class.
    """

    keep: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("--classes", self.keep), ("--rename", tuple(old for old, _ in self.renames))):
            twice = sorted({name for name in names if names.count(name) > 1})
            require(not twice, f"{what} names {', '.join(twice)} twice; once is enough")
        require(all(self.keep), "--classes holds an empty name; write: --classes person,car")
        empty = any(not old or not new for old, new in self.renames)
        require(not empty, "--rename needs an old and a new name; write: --rename car=vehicle")

    def __bool__(self) -> bool:
        return bool(self.keep or self.renames)

    def apply(self, data: dict[str, Any], where: str, *, strict: bool = True) -> dict[str, Any]:
        """Return the instances with the chosen classes; pictures stay, also those that lose all their objects.

        Args:
            data: ``images``, ``categories`` and ``annotations``.
            where: they come from, for the message.
            strict: refuse names that are no class; else they are passed over, as for a validation set that happens to
                lack a class.

        Raises:
            InputError: a name is no class; the message lists those there are.
        """
        if not self:
            return data
        categories = sorted(data["categories"], key=lambda category: int(category["id"]))
        names = [str(category["name"]) for category in categories]
        if strict:
            _require_known("--rename", [old for old, _ in self.renames], names, where)
        renamed = dict(self.renames)
        new = [renamed.get(name, name) for name in names]
        if strict:
            _require_known("--classes", self.keep, new, f"{where} after --rename" if self.renames else where)
        channels = self.keep or tuple(dict.fromkeys(new))
        number = {name: i for i, name in enumerate(channels, start=1)}
        kept = {c["id"]: number[name] for c, name in zip(categories, new, strict=True) if name in number}
        known = {c["id"] for c in categories}
        # An object of a category that is not there is left for the reader to name.
        annotations = [
            {**a, "category_id": kept[a["category_id"]]} if a.get("category_id") in kept else a
            for a in data["annotations"]
            if a.get("category_id") in kept or a.get("category_id") not in known
        ]
        return {
            **data,
            "categories": [{"id": i, "name": name} for name, i in number.items()],
            "annotations": annotations,
        }


def _require_known(option: str, asked: Sequence[str], names: Sequence[str], where: str) -> None:
    for name in asked:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            there = list(dict.fromkeys(names))
            more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
            raise InputError(
                f"{option} {name}: no such class in {where}{hint}; it has {', '.join(there[:SHOWN])}{more}"
            )
