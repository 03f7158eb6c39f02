"""Read a pickle as data: nothing it names is ever imported, and nothing it asks for is ever called.

A pickle is a program for a small stack machine whose danger lies in three instructions: fetch a global, call it,
set its state. This machine runs the others as they are meant and answers those three with inert records, so a
checkpoint's mmengine history, Config objects, numpy scalars or an attacker's ``os.system`` all become
:class:`Opaque` values that only remember what was asked. The instruction set is that of pickle protocols 0-5
(the standard library's ``pickletools`` decodes it).
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from solov2_edge.errors import InputError

__all__ = ["Global", "Opaque", "Persistent", "read_pickle"]

# The instructions whose decoded argument is the value itself.
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLE_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))
# Containers that are built as plain dicts and lists: the data lies in the instructions that follow the call.
_DICTS = frozenset(
    ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "__builtin__.dict")
)
_LISTS = frozenset(
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("list", "tuple", "set", "frozenset")
) | {"torch.Size"}
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError, EOFError)


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something a pickle wanted to import, for example ``torch._utils._rebuild_tensor_v2``."""

    name: str


@dataclass(frozen=True, slots=True)
class Persistent:
    """A reference to something stored outside the pickle, such as a tensor's storage."""

    identity: Any


@dataclass(slots=True, eq=False)
class Opaque:
    """What stands where a pickle asked for a call: who, with what, and what was put into the result.

    Attributes:
        name: dotted name of the callable, or ``""`` when it was not a name.
        args: positional arguments.
        state: what would have been passed to ``__setstate__``.
        items: appended values.
        entries: key-value pairs set on the result.
    """

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    """The machine's marker on the stack."""


_MARK = _Mark()


def read_pickle(stream: IO[bytes]) -> Any:
    """Read one pickle from ``stream``, leaving it just behind the pickle's end.

    Returns:
        Plain values, lists, tuples and dicts (sets become lists, ordered dicts become dicts), with :class:`Global`,
        :class:`Opaque` and :class:`Persistent` where the pickle named, called or referred to something.

    Raises:
        InputError: the bytes are not a whole, well-formed pickle.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"the pickle in it is truncated or damaged ({type(error).__name__}: {error})") from error
    raise InputError("the pickle in it has no end; it is truncated")


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value was expected")
        return value

    def pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def step(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLE_SIZES:
            self.stack.append(tuple([self.pop() for _ in range(_TUPLE_SIZES[name])][::-1]))
        else:
            handler = getattr(self, f"_{name.lower()}", None)
            if handler is None:
                raise InputError(f"the pickle in it uses {name}, which no checkpoint needs; re-save it with torch.save")
            handler(argument)

    # Containers.

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    _empty_set = _empty_list

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop_mark(self, _: Any) -> None:
        self.pop_to_mark()

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def _list(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    _frozenset = _list

    def _dict(self, _: Any) -> None:
        self.stack.append(_fill({}, self.pop_to_mark()))

    def _append(self, _: Any) -> None:
        _extend(self.stack[-2], [self.pop()])

    def _appends(self, _: Any) -> None:
        values = self.pop_to_mark()
        _extend(self.stack[-1], values)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _fill(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        values = self.pop_to_mark()
        _fill(self.stack[-1], values)

    # Memo.

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _binget = _long_binget = _get

    # The dangerous three, and their relatives: records only.

    def _global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(Global(f"{module}.{name}" if isinstance(name, str) and isinstance(module, str) else ""))

    def _reduce(self, _: Any) -> None:
        args, function = self.pop(), self.pop()
        self.stack.append(_record(function, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.pop()
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        self.stack.append(Opaque(argument.replace(" ", ".", 1), tuple(self.pop_to_mark())))

    def _obj(self, _: Any) -> None:
        function, *args = self.pop_to_mark()
        self.stack.append(_record(function, tuple(args)))

    def _build(self, _: Any) -> None:
        state = self.pop()
        if isinstance(self.stack[-1], Opaque):
            self.stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        self.stack.append(Persistent(self.pop()))

    def _persid(self, argument: str) -> None:
        self.stack.append(Persistent(argument))


def _record(function: Any, args: Any) -> Any:
    """Answer a call: plain containers are built here, everything else is only written down."""
    name = function.name if isinstance(function, Global) else ""
    arguments = args if isinstance(args, tuple) else (args,)
    first = arguments[0] if arguments else None
    if name in _DICTS:
        pairs = [pair for pair in first if isinstance(pair, list | tuple)] if isinstance(first, list | tuple) else []
        return _fill({}, [value for pair in pairs if len(pair) == 2 for value in pair])
    if name in _LISTS:
        values = list(first) if isinstance(first, list | tuple) else []
        return tuple(values) if name.endswith(("tuple", "Size")) else values
    if name == "_codecs.encode" and isinstance(first, str):
        return first.encode("latin-1")  # how protocols 0-2 spell bytes
    if name in ("builtins.bytes", "__builtin__.bytes") and not arguments:
        return b""
    return Opaque(name, arguments)


def _extend(target: Any, values: Iterable[Any]) -> None:
    container = target.items if isinstance(target, Opaque) else target
    if not isinstance(container, list):
        raise ValueError(f"append to a {type(target).__name__}")
    container.extend(values)


def _fill(target: Any, flat: list[Any]) -> Any:
    """Set alternating keys and values on a dict or an Opaque, and return it."""
    container = target.entries if isinstance(target, Opaque) else target
    if not isinstance(container, dict) or len(flat) % 2:
        raise ValueError(f"items set on a {type(target).__name__}")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        # Only scalar keys: hashing a deeply nested tuple would exhaust the interpreter's own stack.
        container[key if isinstance(key, str | bytes | int | float | None) else _spell(key)] = value
    return target


def _spell(key: Any) -> str:
    parts = [repr(part) for part in key if isinstance(part, str | int)] if isinstance(key, tuple) else []
    return f"({', '.join(parts)})" if parts else type(key).__name__
