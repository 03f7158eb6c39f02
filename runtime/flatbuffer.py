"""Walking a FlatBuffer with nothing but the standard library, every step checked against the file's bounds.

Format: https://flatbuffers.dev/internals. A table begins with the signed distance to its vtable; the vtable holds its
own size, the table's size, and each field's distance from the table, 0 where the field is absent. Strings, vectors
and tables are reached through unsigned distances that only lead forward, so a walk cannot run in a circle.
"""

from __future__ import annotations

import mmap
import struct

from solov2_edge.errors import InputError

__all__ = ["FlatBuffer"]

IDENTIFIER = slice(4, 8)
HEAD_BYTES = 8  # the distance to the root table, and the identifier
MAX_TEXT = 1 << 16  # bytes


class FlatBuffer:
    """A FlatBuffer's bytes, and the steps through them; a position is a count of bytes from the file's start.

    Attributes:
        data: the bytes.
        size: how many.
    """

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | bytearray | mmap.mmap, identifier: bytes) -> None:
        """Take a buffer whose bytes 4..8 are ``identifier``.

        Raises:
            InputError: they are not.
        """
        self.data, self.size = data, len(data)
        if data[IDENTIFIER] != identifier:
            raise InputError(
                f"not a {identifier.decode()} FlatBuffer: bytes 4 to 8 are {bytes(data[IDENTIFIER])!r}; copy the file "
                "again, or convert the checkpoint again"
            )

    def number(self, code: str, at: int) -> int:
        """Return the little-endian integer at a position; ``code`` is one of struct's, for example ``"I"``.

        Raises:
            InputError: it lies outside the file.
        """
        if at < 0 or at + struct.calcsize(f"<{code}") > self.size:
            raise self._damage(at)
        value: int = struct.unpack_from(f"<{code}", self.data, at)[0]
        return value

    def root(self) -> int:
        """Return the position of the root table.

        Raises:
            InputError: it should lie outside the file, or in the head that names its place.
        """
        root = self.follow(0)
        if root < HEAD_BYTES:
            raise self._damage(root)
        return root

    def follow(self, at: int) -> int:
        """Return where the unsigned distance at ``at`` leads."""
        target = at + self.number("I", at)
        if target >= self.size:
            raise self._damage(target)
        return target

    def field(self, table: int, number: int) -> int | None:
        """Return the position of a table's field by its number in the schema, None where it is absent."""
        vtable = table - self.number("i", table)
        entry = 4 + 2 * number
        if entry + 2 > self.number("H", vtable):
            return None
        distance = self.number("H", vtable + entry)
        return table + distance if distance else None

    def field_count(self, table: int) -> int:
        """Return how many fields a table's vtable has room for."""
        size = self.number("H", table - self.number("i", table))
        return max(0, (size - 4) // 2)

    def scalar(self, table: int, number: int, code: str, default: int = 0) -> int:
        """Return an integer field, or its default where it is absent."""
        at = self.field(table, number)
        return default if at is None else self.number(code, at)

    def vector(self, table: int, number: int, item_bytes: int) -> tuple[int, int]:
        """Return the position of a vector field's first item and the number of items; (0, 0) where it is absent.

        Raises:
            InputError: the vector does not lie within the file as a whole.
        """
        at = self.field(table, number)
        if at is None:
            return 0, 0
        start = self.follow(at)
        count = self.number("I", start)
        if start + 4 + count * item_bytes > self.size:
            raise self._damage(start)
        return start + 4, count

    def tables(self, table: int, number: int) -> range:
        """Return the positions of the items of a vector of tables; :meth:`follow` one to come to the table."""
        first, count = self.vector(table, number, 4)
        return range(first, first + 4 * count, 4)

    def text(self, table: int, number: int) -> str:
        """Return a string field, empty where it is absent; what is not UTF-8 becomes the replacement character.

        Raises:
            InputError: it is longer than :data:`MAX_TEXT`, as no name is.
        """
        first, count = self.vector(table, number, 1)
        if count > MAX_TEXT:
            raise self._damage(first + count)
        return self.data[first : first + count].decode(errors="replace")

    def _damage(self, at: int) -> InputError:
        return InputError(
            f"the file is truncated or damaged: something should lie at byte {at} of {self.size}; copy the file again, "
            "or convert the checkpoint again"
        )
