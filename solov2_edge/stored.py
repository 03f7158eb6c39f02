"""Tensors still in their file: what a pickle's records of torch tensors and numpy arrays say, checked, then read.

The pickle was read as data (``unpickle``); here the few calls that rebuild tensors are understood by name. A tensor
is cut out of the file only when asked, and never larger than it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solov2_edge.errors import InputError
from solov2_edge.unpickle import Global, Opaque, Persistent

__all__ = ["PickledFile", "StoredTensor", "element_size"]

_LARGEST = 1 << 62  # sizes and strides beyond this are no tensor of any machine
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _STORAGES.values()}
_NUMPY_CODES = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"))
_REBUILD = frozenset(f"torch._utils._rebuild_tensor{suffix}" for suffix in ("", "_v2", "_v3"))
_WRAPPERS = frozenset(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"))


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor still in its file.

    Attributes:
        shape: sizes.
        dtype: name of the element type, for example ``"float16"``.
        load: reads it into memory, contiguous.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor]


class PickledFile:
    """A pickled object and the tensors it refers to.

    Attributes:
        root: the object, as plain data (see ``unpickle.read_pickle``).
    """

    def __init__(self, root: Any, size: int, read_storage: Callable[[str, int], bytes]) -> None:
        self.root = root
        self._size = size
        self._read_storage = read_storage

    def stored(self, value: Any) -> StoredTensor | None:
        """Return ``value`` as a tensor in the file if it is a torch tensor or a numpy array, else None.

        Raises:
            InputError: it is one, but of an unusable kind, or it declares more bytes than the file has.
        """
        for _ in range(4):  # a parameter around a subclass around a tensor: deeper nesting does not occur
            if not isinstance(value, Opaque):
                return None
            if value.name in _WRAPPERS and value.args:
                value = value.args[0]
            elif value.name == "torch._tensor._rebuild_from_type_v2" and len(value.args) >= 3:
                function, _, args = value.args[:3]
                value = Opaque(getattr(function, "name", ""), args if isinstance(args, tuple) else ())
            elif value.name in _REBUILD:
                return self._torch_tensor(value)
            else:
                return self._numpy_array(value)
        return None

    def _torch_tensor(self, value: Opaque) -> StoredTensor:
        try:
            storage, offset, shape, stride = value.args[:4]
            key, dtype, count = _storage(storage, value.args[6] if len(value.args) > 6 else None)
            shape, stride = tuple(shape), tuple(stride)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"it holds a tensor record that cannot be read ({error}); re-save it") from error
        numbers = (offset, count, *shape, *stride)
        whole = all(isinstance(n, int) and 0 <= n < _LARGEST for n in numbers) and len(shape) == len(stride)
        itemsize = _DTYPES[dtype].itemsize
        if not whole or count * itemsize > self._size or math.prod(shape) * itemsize > self._size:
            raise InputError(
                f"it declares a tensor of shape {shape} in a storage of {count} {dtype} elements, more than the "
                f"file's {self._size} bytes can hold; the file is truncated or damaged"
            )
        reach = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
        if 0 not in shape and reach > count:
            raise InputError(f"it holds a tensor of shape {shape} that reaches beyond its storage; the file is damaged")

        def load() -> Tensor:
            if 0 in shape:
                return torch.empty(shape, dtype=_DTYPES[dtype])
            data = bytearray(self._read_storage(key, count * itemsize))
            if len(data) < count * itemsize:
                raise InputError(
                    f"the storage {key} has {len(data)} of {count * itemsize} bytes; the file is truncated"
                )
            flat = torch.frombuffer(data, dtype=_DTYPES[dtype], count=count)
            return flat.as_strided(shape, stride, offset).contiguous()

        return StoredTensor(shape, dtype, load)

    def _numpy_array(self, value: Opaque) -> StoredTensor | None:
        tail = value.name.rpartition("core.")[2]
        if not value.name.startswith("numpy.") or tail not in ("multiarray._reconstruct", "numeric._frombuffer"):
            return None
        state: Any = value.state
        if tail == "numeric._frombuffer" and len(value.args) == 4:
            raw, dtype, shape, order = value.args
        elif isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, raw = state
            order = "F" if fortran else "C"
        else:
            return None
        data, code = _raw_bytes(raw), _numpy_code(dtype)
        if code is None or data is None or not isinstance(shape, tuple):
            return None
        sizes = all(isinstance(n, int) and n >= 0 for n in shape)
        if not sizes or math.prod(shape) * np.dtype(code).itemsize != len(data):
            raise InputError(f"it holds a numpy array of shape {shape} with {len(data)} bytes; the file is damaged")
        native = np.dtype(code).newbyteorder("=")

        def load() -> Tensor:
            array = np.frombuffer(data, dtype=code).reshape(shape, order="F" if order == "F" else "C")
            return torch.from_numpy(np.array(array, dtype=native, order="C"))

        return StoredTensor(shape, native.name, load)


def _storage(storage: Any, dtype: Any) -> tuple[str, str, int]:
    """Return (key, dtype name, elements) of a persistent storage reference."""
    if not isinstance(storage, Persistent) or not isinstance(storage.identity, tuple) or len(storage.identity) < 5:
        raise ValueError("it refers to no storage")
    kind, storage_type, key, _, count = storage.identity[:5]
    if kind != "storage" or not isinstance(key, str) or (len(storage.identity) > 5 and storage.identity[5] is not None):
        raise ValueError("its storage is of a form nothing has written since PyTorch 0.4")
    name = storage_type.name.rpartition(".")[2]
    if name == "UntypedStorage" and isinstance(dtype, Global):
        element = dtype.name.rpartition(".")[2]
        if element in _DTYPES and isinstance(count, int):
            return key, element, count // _DTYPES[element].itemsize
    if name not in _STORAGES:
        raise ValueError(f"its elements are {name}, which no SOLOv2 weight is")
    return key, _STORAGES[name], count


def _raw_bytes(raw: Any) -> bytes | None:
    """Return an array's bytes; Python 2 wrote them as text."""
    if isinstance(raw, str):
        try:
            return raw.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return bytes(raw) if isinstance(raw, bytes | bytearray) else None


def _numpy_code(dtype: Any) -> str | None:
    """Return a dtype code such as ``"<f4"`` for a pickled plain numpy dtype, else None."""
    if not isinstance(dtype, Opaque) or dtype.name != "numpy.dtype" or not dtype.args:
        return None
    code = dtype.args[0]
    if not isinstance(code, str) or code not in _NUMPY_CODES:
        return None
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "|"
    return (">" if order == ">" else "<") + code


def element_size(storage: str) -> int:
    """Return bytes per element of a storage class such as ``"HalfStorage"``."""
    if storage in _STORAGES:
        return _DTYPES[_STORAGES[storage]].itemsize
    # Kinds no weight has may still lie between the weights and must be stepped over.
    return {"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "QInt32Storage": 4}.get(storage, 1)
