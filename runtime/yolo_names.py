"""What a YOLO data set says of itself: ``data.yaml`` or a list of class names.

Of YAML only what such files hold is read: top-level keys with a scalar, a list or a numbered mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solov2_edge.errors import InputError, require

__all__ = ["NAME_LISTS", "DataYaml", "find_yaml", "read_names", "read_yaml"]

NAME_LISTS = ("classes.txt", "names.txt", "obj.names", "classes.names")
MAX_NAME = 200  # letters
SPLITS = ("train", "val", "valid", "test")
_KEYS = (*SPLITS, "path", "nc", "names")
_PAIR = re.compile(r"""^\s*['"]?(\d{1,9})['"]?\s*:\s+(.*)$""")


@dataclass(frozen=True, slots=True)
class DataYaml:
    """A ``data.yaml``.

    Attributes:
        path: the file.
        names: class names by number.
        splits: split -> its folder of pictures, as existing paths or as they would be.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[str, Path]


def find_yaml(folder: Path) -> Path | None:
    """Return the ``data.yaml`` of a folder, or its only other YAML file that lists names."""
    usual = folder / "data.yaml"
    if usual.is_file():
        return usual
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    others = [p for p in files if re.search(r"(?m)^names\s*:", _text(p))]
    return others[0] if len(others) == 1 else None


def read_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a list of them, one a line.

    Raises:
        InputError: it is empty or a name stands twice.
    """
    return _checked(path, [line.strip() for line in _text(path).splitlines() if line.strip()])


def read_yaml(path: Path) -> DataYaml:
    """Read a ``data.yaml``.

    Folders are relative to its ``path``, or to the file where that does not exist on this machine; a leading ``../``
    that leads nowhere is dropped, since exports are often unpacked one folder higher than they were made.

    Raises:
        InputError: it has no names, or a split is something other than one folder.
    """
    values = {key: _value(inline, block) for key, inline, block in _entries(_text(path)) if key in _KEYS}
    names = values.get("names")
    if isinstance(names, dict):
        require(sorted(names) == list(range(len(names))), f"{path}: names must be numbered 0, 1, 2 without a gap")
        names = [names[number] for number in range(len(names))]
    require(isinstance(names, list) and bool(names), f"{path} has no names; write: names: [first, second]")
    assert isinstance(names, list)
    count = values.get("nc")
    require(
        not isinstance(count, str) or count == "" or count == str(len(names)),
        f"{path} says nc: {count} and lists {len(names)} names; mend it",
    )
    roots = [path.parent]
    if isinstance(values.get("path"), str) and (path.parent / values["path"]).is_dir():
        roots.insert(0, path.parent / values["path"])
    splits = {}
    for split in SPLITS:
        given = values.get(split)
        if given in (None, ""):
            continue
        if not isinstance(given, str):
            raise InputError(f"{path}: {split} names several folders; expected one, give its path in their place")
        splits["val" if split == "valid" else split] = _folder(roots, given)
    return DataYaml(path, _checked(path, names), splits)


def _folder(roots: list[Path], given: str) -> Path:
    inner = re.sub(r"^(\.\./)+", "", given)
    candidates = [root / name for root in roots for name in (given, inner)]
    return next((place for place in candidates if place.is_dir()), candidates[0])


def _checked(path: Path, names: list[str]) -> tuple[str, ...]:
    require(bool(names) and all(names), f"{path} must hold class names, one each; an empty one stands there")
    longest = max(names, key=len)
    require(len(longest) <= MAX_NAME, f"{path} has a name of {len(longest)} letters ({longest[:40]}...); shorten it")
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{path} names {', '.join(twice)} twice; give each class its own name")
    return tuple(names)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; expected class names") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error


def _entries(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (key, rest of its line, the lines that belong to it) of each top-level key."""
    key, inline, block = "", "", list[str]()
    for raw in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        found = re.match(r"([A-Za-z_]+)\s*:(?:\s+(.*))?$", line)
        if found:
            if key:
                yield key, inline, block
            key, inline, block = found[1], (found[2] or "").strip(), []
        elif line.strip():
            block.append(line)
    if key:
        yield key, inline, block


def _value(inline: str, block: list[str]) -> Any:
    """Return a string, a list of strings, or a mapping from numbers to strings."""
    if inline[:1] in ("[", "{"):
        text = " ".join([inline, *(line.strip() for line in block)])
        items = [item for item in _items(text[1:].rstrip().rstrip("]}")) if item]
        if inline[0] == "[":
            return items
        pairs = [_PAIR.match(item) for item in items]
        return {int(pair[1]): _plain(pair[2]) for pair in pairs if pair}
    if inline or not block:
        return _plain(inline)
    if all(line.lstrip().startswith("-") for line in block):
        return [_plain(line.lstrip()[1:]) for line in block]
    pairs = [_PAIR.match(line) for line in block]
    return {int(pair[1]): _plain(pair[2]) for pair in pairs if pair}


def _items(text: str) -> Iterator[str]:
    """Yield what stands between the commas, those inside quotes apart; in one pass, whatever the text is."""
    item: list[str] = []
    quote, last = "", ""
    for letter in text:
        if letter == "," and not quote:
            yield _plain("".join(item))
            item, last = [], ""
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and last in ("", ":"):  # an apostrophe within a word opens nothing
            quote = letter
        item.append(letter)
        last = last if letter.isspace() else letter
    yield _plain("".join(item))


def _plain(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text
