"""Faults planted in compressed packages on disk: the gate must catch each.

It holds every weight to its own rounding of the float weight, and everything else to the float16 twin.
"""

import shutil

import numpy as np
import pytest

from solov2_edge.converters import to_coreml
from solov2_edge.converters.coreml_gates import check_compression
from solov2_edge.errors import GateError, InputError

WRONG, REFUSED = GateError, InputError
AFFINE, TABLE, BLOCKS = "constexpr_affine_dequantize", "constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"


def scale_of_a_channel(e):
    e.array(e.op(AFFINE), "scale")[0] *= 1.05


def scales_of_two_channels_swapped(e):
    scale = e.array(e.op(AFFINE), "scale")
    low, high = int(scale.argmin()), int(scale.argmax())
    scale[low], scale[high] = scale[high], scale[low]


def zero_point(e):
    e.array(e.op(AFFINE), "zero_point")[1] += 1


def one_weight_a_step_away(e):
    data = e.array(e.op(AFFINE), "quantized_data")
    data[5] += 1 if data[5] < 0 else -1


def sign_bit_of_a_weight(e):
    e.array(e.op(AFFINE), "quantized_data").view("u1")[7] ^= 0x80


def axis(e):
    op = e.op(AFFINE, 0, lambda op: len({d.constant.size for d in op.outputs[0].type.tensorType.dimensions[:2]}) == 1)
    op.attributes["axis"].immediateValue.tensor.ints.values[0] = 1


def scale_missing(e):
    del e.op(AFFINE).attributes["scale"]


def table_entry(e):
    table = e.array(e.op(TABLE), "lut")
    order = np.argsort(table)
    table[order[10]] = table[order[11]]


def table_entries_swapped(e):
    table = e.array(e.op(TABLE), "lut")
    table[0], table[-1] = table[-1], table[0]


def index_bit(e):
    e.array(e.op(TABLE), "indices")[3] ^= 0x04


def indices_of_another_weight(e):
    same = {}
    for op in e.all(TABLE):
        key = str(op.attributes["indices"].type), str(op.outputs[0].type)
        if key in same:
            op.attributes["indices"].blobFileValue.offset = same[key].blobFileValue.offset
            return
        same[key] = op.attributes["indices"]
    raise AssertionError("no two weights of one shape")


def shape_of_the_table_s_weight(e):
    values = e.op(TABLE).attributes["shape"].immediateValue.tensor.bytes
    values.values = np.frombuffer(values.values, "<u4")[::-1].tobytes()


def indices_cut_short(e):
    e.op(TABLE).attributes["indices"].type.tensorType.dimensions[0].constant.size -= 1


def scale_of_a_block(e):
    e.array(e.op(BLOCKS), "scale")[0] *= 1.2


def half_a_byte(e):
    e.array(e.op(BLOCKS), "data")[9] ^= 0x20


def halves_of_a_byte_swapped(e):
    data = e.array(e.op(BLOCKS, 0, lambda op: e.value(op, "data").type.tensorType.dataType == 25), "data")
    place = int(np.flatnonzero((data >> 4) != (data & 15))[0])
    data[place] = data[place] >> 4 | (data[place] & 15) << 4


def epsilon_doubled(e):
    e.replace(e.op("instance_norm", 3), "epsilon", lambda old: [2 * old[0]])


def last_bit_of_a_bias(e):
    stored = e.op("conv", 0, lambda op: "bias" in op.inputs and e.value(op, "bias").HasField("blobFileValue"))
    e.array(stored, "bias").view("u2")[0] ^= 1


def relu_left_out(e):
    e.op("relu", 2).type = "identity"


FAULTS = [
    ("int8", epsilon_doubled, WRONG),
    ("int8", last_bit_of_a_bias, WRONG),
    ("int8", relu_left_out, WRONG),
    ("int8", scale_of_a_channel, WRONG),
    ("int8", scales_of_two_channels_swapped, WRONG),
    ("int8", zero_point, WRONG),
    ("int8", one_weight_a_step_away, WRONG),
    ("int8", sign_bit_of_a_weight, WRONG),
    ("int8", axis, WRONG),
    ("int8", scale_missing, REFUSED),
    ("palette6", table_entry, WRONG),
    ("palette6", table_entries_swapped, WRONG),
    ("palette6", index_bit, WRONG),
    ("palette6", indices_of_another_weight, WRONG),
    ("palette6", shape_of_the_table_s_weight, REFUSED),
    ("palette6", indices_cut_short, REFUSED),
    ("int4", scale_of_a_block, WRONG),
    ("int4", half_a_byte, WRONG),
    ("int4", halves_of_a_byte_swapped, WRONG),
]


@pytest.fixture(scope="module")
def gates(coreml_export, tmp_path_factory):
    """Return a function: precision -> the package, and the gate it passed, as a function of a package."""
    known = {}

    def gate(precision):
        if precision not in known:
            given = []

            def spy(name, found, exact, half, package):
                folder = tmp_path_factory.mktemp("twins")  # the twins are gone once the export is done
                twins = [shutil.copytree(twin, folder / twin.name) for twin in (exact, half)]
                given.append((name, found, *twins))
                return check_compression(name, found, exact, half, package)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(to_coreml, "check_compression", spy)
                exported = coreml_export(precision, fresh=True)
            (arguments,) = given
            known[precision] = exported.path, lambda path: check_compression(*arguments, path)
        return known[precision]

    return gate


@pytest.mark.parametrize("precision", ["int8", "palette6", "int4"])
def test_the_untouched_package_passes(gates, precision):
    path, check = gates(precision)
    assert 0.1 < check(path) <= 1


@pytest.mark.parametrize(
    ("precision", "fault", "expected"), FAULTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_fault_is_caught(gates, edit, tmp_path, precision, fault, expected):
    path, check = gates(precision)
    copied = tmp_path / "faulty.mlpackage"
    shutil.copytree(path, copied)
    package = edit(copied)
    fault(package)
    package.save()
    with pytest.raises(expected):
        check(copied)
