"""Nothing in a pickle runs: neither in plain pickles nor in torch's zip and legacy files."""

import collections
import contextlib
import io
import pickle
import pickletools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.checkpoint import read_checkpoint
from solov2_edge.errors import InputError
from solov2_edge.unpickle import Global, Opaque, read_pickle

PROTOCOLS = range(6)


def attacks(flag: Path):
    """Pickle instructions that create ``flag`` when they are run by a real unpickler: name -> bytes."""
    text = f"open({str(flag)!r}, 'w').close()"

    def call(module, name, argument):
        return f"c{module}\n{name}\n(V{argument}\ntR".encode()

    touch = f"touch {flag}"
    chain = (
        # getattr(__import__('os'), 'system')('touch ...')
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR" + f"(V{touch}\ntR".encode()
    )
    partial = b"cfunctools\npartial\n(cos\nsystem\n" + f"V{touch}\ntR(tR".encode()
    attrgetter = b"coperator\nattrgetter\n(Vsystem\ntR(cbuiltins\n__import__\n(Vos\ntRtR" + f"(V{touch}\ntR".encode()
    return {
        "os.system": call("os", "system", touch),
        "posix.system": call("posix", "system", touch),
        "builtins.eval": call("builtins", "eval", text),
        "builtins.exec": call("builtins", "exec", text),
        "py2 eval": call("__builtin__", "eval", text),
        "torch.hub.load": call("torch.hub", "load", str(flag.parent)),
        "torch.load": call("torch", "load", str(flag)),
        "inst": f"(V{touch}\nios\nsystem\n".encode(),
        "obj": b"(cos\nsystem\n" + f"V{touch}\no".encode(),
        "getattr chain": chain,
        "functools.partial": partial,
        "operator.attrgetter": attrgetter,
        "build": b"ccollections\nOrderedDict\n(tR(V__class__\ncos\nsystem\ndb",
    }


ATTACKS = sorted(attacks(Path("flag")))


def body(instructions: bytes) -> bytes:
    """A protocol-2 pickle of {'state_dict': <attack>}."""
    return b"\x80\x02}U\nstate_dict" + instructions + b"s."


def as_zip(path: Path, data: bytes) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")


def as_legacy(path: Path, data: bytes) -> None:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in head) + data + pickle.dumps([], protocol=2))


def as_pickle(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize("container", [as_zip, as_legacy, as_pickle])
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_runs(tmp_path, name, container):
    flag = tmp_path / "flag"
    path = tmp_path / "weights.pth"
    container(path, body(attacks(flag)[name]))
    with pytest.raises(InputError, match="no tensors"):
        read_checkpoint(path)
    assert not flag.exists()


def test_the_attacks_are_real(tmp_path):
    """The same bytes do harm in the standard library's unpickler, so the test above can fail."""
    ran = set()
    for name, instructions in attacks(tmp_path / "flag").items():
        flag = tmp_path / "flag"
        flag.unlink(missing_ok=True)
        if name.startswith("torch") or name == "build":
            continue
        pickle.loads(body(instructions))  # our own bytes: they create an empty file in tmp_path
        if flag.exists():
            ran.add(name)
    assert {"os.system", "builtins.eval", "getattr chain", "operator.attrgetter", "functools.partial"} <= ran


def test_globals_and_calls_are_only_recorded():
    value = read_pickle(io.BytesIO(b"\x80\x02cos\nsystem\n(Vtouch x\ntR."))
    assert isinstance(value, Opaque)
    assert (value.name, value.args) == ("os.system", ("touch x",))
    assert read_pickle(io.BytesIO(b"\x80\x02cos\nsystem\n.")) == Global("os.system")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@settings(deadline=None)
@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_values_come_back_equal(value, protocol):
    stream = io.BytesIO(pickle.dumps(value, protocol=protocol) + b"tail")
    assert read_pickle(stream) == value
    assert stream.read() == b"tail"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_that_are_calls(protocol):
    value = {"o": collections.OrderedDict(a=1, b=[2]), "d": collections.defaultdict(list, {"x": 3}), "s": {4}}
    assert read_pickle(io.BytesIO(pickle.dumps(value, protocol=protocol))) == {
        "o": {"a": 1, "b": [2]},
        "d": {"x": 3},
        "s": [4],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_recursive_values(protocol):
    shared: list = [1]
    shared.append(shared)
    value = read_pickle(io.BytesIO(pickle.dumps([shared, shared], protocol=protocol)))
    assert value[0] is value[1]
    assert value[0][1] is value[0]


def test_foreign_objects_keep_what_was_put_into_them():
    class Bag(list):
        pass

    Bag.__qualname__, Bag.__module__ = "Bag", "nowhere"
    names = {"nowhere": type("m", (), {"Bag": Bag})}
    import sys

    sys.modules["nowhere"] = names["nowhere"]  # only so that pickle can write it
    try:
        bag = Bag([1, 2])
        bag.note = "x"
        data = pickle.dumps(bag, protocol=2)
    finally:
        del sys.modules["nowhere"]
    value = read_pickle(io.BytesIO(data))
    assert value.items == [1, 2]
    assert value.state == {"note": "x"}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_value_or_one_error(data):
    with contextlib.suppress(InputError):
        read_pickle(io.BytesIO(b"\x80\x02" + data))


@settings(deadline=None)
@given(st.lists(st.sampled_from(pickletools.opcodes), max_size=30), st.binary(max_size=30))
def test_any_instructions_end_in_a_value_or_one_error(opcodes, tail):
    data = b"".join(opcode.code.encode("latin-1") + tail[:4] for opcode in opcodes)
    with contextlib.suppress(InputError):
        read_pickle(io.BytesIO(data + b"."))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02",  # no end
        b"\x80\x02X\xff\xff\xff\x7fabc",  # a text of 2 GiB in 3 bytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc",  # bytes of 8 EiB in 3
        b"\x80\x02r\xff\xff\xff\xff.",  # memo index without a value
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x02K\x01K\x02s.",  # items set on a number
        b"\x80\x02(.",  # a mark as the result
    ],
)
def test_hostile_sizes_and_orders_are_refused(data):
    with pytest.raises(InputError):
        read_pickle(io.BytesIO(data))


def test_a_deeply_nested_key_does_not_exhaust_the_stack():
    nested = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."
    assert list(read_pickle(io.BytesIO(nested)).values()) == [1]


def test_torch_files_hold_real_calls(tmp_path):
    """A guard on the fixture: torch's own format needs calls, which stay records until ``stored`` reads them."""
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with (tmp_path / "x.pth").open("rb") as stream:
        for _ in range(3):
            read_pickle(stream)
        assert read_pickle(stream)["w"].name == "torch._utils._rebuild_tensor_v2"
