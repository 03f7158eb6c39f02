"""Checkpoints that are damaged, lie about their size, would run code, or hold another network."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hostile_case import Case, Kit, Make, torch_file, well, write

__all__ = ["CHECKPOINTS"]

INSPECT = "inspect {case}/bad.pth"
CONVERT = "convert {case}/bad.pth --input-size 64x96 -o {out}"
LEGACY_HEAD = b"".join(
    pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)
State = dict[str, Any]


def changed(change: Callable[[State], Any]) -> Make:
    """Return a maker that saves the good weights after a change."""

    def make(folder: Path, kit: Kit) -> None:
        state = {name: tensor.clone() for name, tensor in kit.state.items()}
        returned = change(state)
        (folder / "bad.pth").write_bytes(torch_file({"state_dict": state} if returned is None else returned))

    return make


def _set(name: str, value: float) -> Callable[[State], None]:
    def change(state: State) -> None:
        state[name].flatten()[0] = value

    return change


def _fill(name: str, shape: tuple[int, ...]) -> Callable[[State], None]:
    def change(state: State) -> None:
        import torch

        state[name] = torch.zeros(shape)

    return change


def _drop(part: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        for name in [name for name in state if part in name]:
            del state[name]

    return change


def _cast(kind: str) -> Callable[[State], State]:
    def change(state: State) -> State:
        import torch

        return {"state_dict": {name: tensor.to(getattr(torch, kind)) for name, tensor in state.items()}}

    return change


def _one_cast(name: str, kind: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        import torch

        state[name] = state[name].to(getattr(torch, kind))

    return change


def _renamed(prefix: str) -> Callable[[State], State]:
    return lambda state: {"state_dict": {prefix + name: tensor for name, tensor in state.items()}}


def cut(share: float) -> Make:
    """Return a maker that keeps a share of the good file."""

    def make(folder: Path, kit: Kit) -> None:
        data = kit.checkpoint.read_bytes()
        (folder / "bad.pth").write_bytes(data[: int(len(data) * share)])

    return make


def flipped(share: float) -> Make:
    """Return a maker that turns over a byte of the good file, at that share of its length."""

    def make(folder: Path, kit: Kit) -> None:
        data = bytearray(kit.checkpoint.read_bytes())
        data[int(len(data) * share)] ^= 0xFF
        (folder / "bad.pth").write_bytes(data)

    return make


def zipped(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with that header, and a length of it that may be another."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _claim(shape: list[int], end: int, kind: str = "F32") -> dict[str, Any]:
    return {"backbone.conv1.weight": {"dtype": kind, "shape": shape, "data_offsets": [0, end]}}


def _tensor(shape: bytes, count: bytes = b"J\xff\xff\xff\x7f", kind: str = "FloatStorage") -> bytes:
    """Return pickle instructions of {"backbone.conv1.weight": a tensor}, with a storage that may not be there."""
    reference = f"(Vstorage\nctorch\n{kind}\nV0\nVcpu\n".encode() + count + b"tQ"
    return (
        b"\x80\x02}Vbackbone.conv1.weight\nctorch._utils\n_rebuild_tensor_v2\n("
        + reference
        + b"K\x00"
        + shape
        + shape
        + b"\x89}tRs."
    )


def _code(instructions: bytes) -> bytes:
    return b"\x80\x02}Vstate_dict\n" + instructions + b"s."


# Pickles that a real unpickler would run; each would leave a file where the test looks for one.
PROGRAMS = {
    "os.system": b"cos\nsystem\n(Vtouch ran\ntR",
    "subprocess": b"csubprocess\nPopen\n((lVtouch\naVran\natR",
    "shutil.rmtree": b"cshutil\nrmtree\n(V.\ntR",
    "os.makedirs": b"cos\nmakedirs\n(Vran\ntR",
    "pathlib touch": b"cpathlib\nPath.touch\n(cpathlib\nPath\n(Vran\ntRtR",
    "importlib": b"cimportlib\nimport_module\n(Vantigravity\ntR",
    "runpy": b"crunpy\n_run_code\n(Vopen('ran','w')\n}tR",
    "numpy load": b"cnumpy\nload\n(Vran\nNNtR",
    "torch jit": b"ctorch.jit\nload\n(Vran\ntR",
    "types.CodeType": b"ctypes\nFunctionType\n(ctypes\nCodeType\n(tR}tR",
    "code.interact": b"ccode\nInteractiveInterpreter.runcode\n(ccode\nInteractiveInterpreter\n(tRVopen('ran','w')\ntR",
    "bdb": b"cbdb\nBdb.run\n(cbdb\nBdb\n(tRVopen('ran','w')\ntR",
}
# Pickles that are data only, and bad.
PICKLES = {
    "nested 50,000 deep": b"\x80\x02" + b"(" * 50_000 + b"t" * 50_000 + b".",
    "list in itself": b"\x80\x02]q\x00h\x00a.",
    "dict in itself": b"\x80\x02}q\x00Vstate_dict\nh\x00s.",
    "doubled 60 times": b"\x80\x02}Vstate_dict\n](K\x01l" + b"q\x00(h\x00h\x00l" * 60 + b"s.",
    "a text of 2^60 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "bytes of 2^31": b"\x80\x04B\xff\xff\xff\x7fx.",
    "a number of 2^31 digits": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "memo from nowhere": b"\x80\x02h\x07.",
    "an empty stack": b"\x80\x02R.",
    "only a stop": b"\x80\x02.",
    "protocol 99": b"\x80\x63}.",
    "keys that cannot be keys": b"\x80\x02}]K\x01s.",
    "an unknown instruction": b"\x80\x02}\xfes.",
    "an extension": b"\x80\x02\x82\x01.",
    "a next buffer": b"\x80\x05\x97.",
    "a list": pickle.dumps([1, 2, 3]),
    "a text": pickle.dumps("weights"),
    "None": pickle.dumps(None),
    "weights that are numbers": pickle.dumps({"state_dict": {"backbone.conv1.weight": 3}}),
    "names that are numbers": pickle.dumps({"state_dict": {1: 2}}),
    "a state_dict that is a list": pickle.dumps({"state_dict": [1]}),
}
CLAIMS = {
    "2 GiB of float32": _tensor(b"J\x00\x00\x00\x20\x85"),
    "2^62 elements": _tensor(b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85"),
    "a negative side": _tensor(b"J\xff\xff\xff\xff\x85"),
    "a side that is a text": _tensor(b"Vx\n\x85"),
    "a shape that is a number": _tensor(b"K\x03"),
    "a shape that is None": _tensor(b"N"),
    "a count that is a text": _tensor(b"K\x03\x85", count=b"Vx\n"),
    "a negative count": _tensor(b"K\x03\x85", count=b"J\xff\xff\xff\xff"),
    "complex numbers": _tensor(b"K\x03\x85", kind="ComplexFloatStorage"),
    "quantised integers": _tensor(b"K\x03\x85", kind="QInt8Storage"),
    "a storage that is not there": _tensor(b"K\x03\x85", count=b"K\x03"),
}
SAFETENSORS = {
    "an empty header": safetensors({}),
    "a header of 2^60 bytes": safetensors({}, length=1 << 60),
    "a header that is a list": safetensors([]),
    "a header that is no JSON": safetensors(b'{"a": '),
    "a header that is no UTF-8": safetensors(b'{"\xff\xfe": 1}'),
    "a header nested 100,000 deep": safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "2 GiB claimed": safetensors(_claim([1 << 29], 1 << 31), bytes(64)),
    "a shape beside its bytes": safetensors(_claim([8, 3, 7, 7], 16), bytes(16)),
    "negative offsets": safetensors(_claim([4], -16), bytes(16)),
    "a negative side": safetensors(_claim([-4], 16), bytes(16)),
    "a side that overflows": safetensors(_claim([1 << 62, 1 << 62], 16), bytes(16)),
    "float8": safetensors(_claim([16], 16, "F8_E4M3"), bytes(16)),
    "an unknown type": safetensors(_claim([16], 16, "X9"), bytes(16)),
    "a tensor of another network": safetensors(_claim([4], 16), bytes(16)),
    "bytes too many": safetensors(_claim([4], 16), bytes(99)),
    "offsets that overlap": safetensors(
        {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("a", "b")}, bytes(16)
    ),
    "a spec that is no JSON": safetensors({"__metadata__": {"solov2_edge.spec": "{"}, **_claim([4], 16)}, bytes(16)),
    "a spec with a width of 10^9": safetensors(
        {"__metadata__": {"solov2_edge.spec": '{"pyramid_width": 1000000000}'}, **_claim([4], 16)}, bytes(16)
    ),
    "metadata that is a number": safetensors({"__metadata__": 3}),
}
ZIPS = {
    "a bomb of 64 MiB in 64 KiB": zipped(
        {"a/data.pkl": _tensor(b"K\x03\x85", count=b"K\x03"), "a/data/0": bytes(64 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "a bomb in its pickle": zipped({"a/data.pkl": b"\x80\x02}" + b"0" * (64 << 20)}, zipfile.ZIP_DEFLATED),
    "a compressed LZMA record": zipped({"a/data.pkl": b"\x80\x02}.", "a/version": b"3\n"}, zipfile.ZIP_LZMA),
    "names that climb": zipped({"../../ran/data.pkl": b"\x80\x02}.", "../../ran/data/0": b"1234"}),
    "an absolute name": zipped({"/ran/data.pkl": b"\x80\x02}."}),
    "a storage key that climbs": zipped(
        {"a/data.pkl": _tensor(b"K\x03\x85", count=b"K\x03").replace(b"V0\n", b"V../../../etc/hostname\n")}
    ),
    "10,000 empty records": zipped({"a/data.pkl": b"\x80\x02}.", **{f"a/data/{i}": b"" for i in range(10_000)}}),
    "big-endian": zipped({"a/data.pkl": b"\x80\x02}.", "a/byteorder": b"big"}),
    "a storage too short": zipped({"a/data.pkl": _tensor(b"K\x03\x85", count=b"K\x03"), "a/data/0": b"1234"}),
    "an empty pickle": zipped({"a/data.pkl": b""}),
    "nothing in it": zipped({}),
}
WEIGHTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "NaN in a convolution": (_set("backbone.conv1.weight", float("nan")), "not finite"),
    "inf in a kernel": (_set("mask_head.conv_kernel.weight", float("inf")), "not finite"),
    "-inf in a running mean": (_set("backbone.bn1.running_mean", float("-inf")), "not finite"),
    "a missing tower": (_drop("mask_head.cls_convs.1."), "tensors differ"),
    "a missing neck": (_drop("neck."), "."),
    "no head at all": (_drop("mask_head."), "."),
    "no backbone at all": (_drop("backbone."), "."),
    "an extra tensor": (_fill("mask_head.scale", (1,)), "extra"),
    "a bias of another length": (_fill("neck.fpn_convs.1.conv.bias", (9,)), "mis-shaped"),
    "a class layer without classes": (_fill("mask_head.conv_cls.weight", (0, 32, 3, 3)), "."),
    "a class layer of rank 1": (_fill("mask_head.conv_cls.weight", (3,)), "."),
    "a scalar stem": (_fill("backbone.conv1.weight", ()), "."),
    "a stem of four channels": (_fill("backbone.conv1.weight", (8, 4, 7, 7)), "."),
    "kernels of another count": (_fill("mask_head.conv_kernel.weight", (7, 32, 3, 3)), "."),
    "an unknown prefix": (_renamed("student.teacher."), "."),
    "only an optimizer": (lambda state: {"optimizer": {"lr": 0.1}}, "no tensors"),
    "int32 weights": (_cast("int32"), "holds int32 numbers, expected one of float16"),
    "int64 weights": (_cast("int64"), "holds int64 numbers"),
    "int8 weights": (_cast("int8"), "holds int8 numbers"),
    "uint8 weights": (_cast("uint8"), "holds uint8 numbers"),
    "truth values as weights": (_cast("bool"), "holds bool numbers"),
    "one int16 tensor": (_one_cast("neck.fpn_convs.1.conv.bias", "int16"), "neck.fpn_convs.1.conv.bias holds int16"),
    "nothing in the state_dict": (lambda state: {"state_dict": {}}, "no tensors|empty"),
}
ODD = {
    "float16": _cast("float16"),
    "bfloat16": _cast("bfloat16"),
    "float64": _cast("float64"),
    "data-parallel names": _renamed("module."),
}

CHECKPOINTS = [
    *(Case(f"checkpoint cut at {share:.0%}", INSPECT, ".", cut(share)) for share in (0.01, 0.2, 0.5, 0.9, 0.999)),
    *(
        Case(f"checkpoint with a byte flipped at {share:.0%}", CONVERT, ".", flipped(share))
        for share in (0.0, 0.15, 0.3, 0.6, 0.95)
    ),
    *(
        Case(
            f"checkpoint that would run {name}, as a zip",
            INSPECT,
            ".",
            write("bad.pth", zipped({"a/data.pkl": _code(code)})),
        )
        for name, code in PROGRAMS.items()
    ),
    *(
        Case(
            f"checkpoint that would run {name}, legacy",
            CONVERT,
            ".",
            write("bad.pth", LEGACY_HEAD + _code(code) + b"]."),
        )
        for name, code in PROGRAMS.items()
    ),
    *(Case(f"checkpoint pickle: {name}", INSPECT, ".", write("bad.pth", data)) for name, data in PICKLES.items()),
    *(
        Case(f"checkpoint that claims {name}", INSPECT, ".", write("bad.pth", zipped({"a/data.pkl": data})))
        for name, data in CLAIMS.items()
    ),
    *(
        Case(f"checkpoint safetensors: {name}", "inspect {case}/bad.safetensors", ".", write("bad.safetensors", data))
        for name, data in SAFETENSORS.items()
    ),
    *(Case(f"checkpoint zip: {name}", INSPECT, ".", write("bad.pth", data)) for name, data in ZIPS.items()),
    *(Case(f"checkpoint with {name}", CONVERT, says, changed(change)) for name, (change, says) in WEIGHTS.items()),
    *(Case(f"checkpoint in {name}", INSPECT, make=changed(change), code=0, right=well) for name, change in ODD.items()),
]
