"""``train --set``: which fields of a variant change, how the network is then called, and what is refused."""

import pytest

from solov2_edge.cli import main
from solov2_edge.errors import InputError
from solov2_edge.spec_changes import CHANGEABLE, changed_variant
from solov2_edge.variants import VARIANTS


def test_fields_change_and_the_name_says_so():
    spec = changed_variant("nano", ["kernel_size=3", "mask_channels = 64", "kernel_coordinates=off"], ("nut",))
    assert (spec.kernel_size, spec.mask_channels, spec.kernel_length, spec.kernel_coordinates) == (3, 64, 576, False)
    assert spec.name == "nano+kernel_size=3+mask_channels=64+kernel_coordinates=off"
    assert spec.class_names == ("nut",)
    assert changed_variant("light-448-r50", ["tower_dcn=v1"]).tower_dcn == "v1"


def test_what_is_so_already_is_no_change():
    spec = changed_variant("nano", ["kernel_size=1", "feature_coordinates=TRUE", "mask_features=unified"])
    assert spec is VARIANTS["nano"]
    assert changed_variant("nano", []) is VARIANTS["nano"]


def test_every_changeable_field_exists():
    spec = VARIANTS["nano"].to_dict()
    later = {"kernel_size", "kernel_coordinates", "feature_coordinates", "mask_features", "mask_dcn", "tower_dcn_convs"}
    assert set(CHANGEABLE) - later <= set(spec)
    assert all(hasattr(VARIANTS["nano"], field) for field in CHANGEABLE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["kernel_size"], "expected FIELD=VALUE"),
        (["kernel_size="], "expected FIELD=VALUE"),
        (["kernel_size=2"], "kernel_size must be 1 or 3, got 2"),
        (["kernel_size=three"], "expected a whole number"),
        (["kernel_size=1", "kernel_size=3"], "given twice"),
        (["kernelsize=3"], "expected kernel_size"),
        (["class_names=a"], "is no field that can be changed"),
        (["kernel_coordinates=maybe"], "expected on or off"),
        (["mask_features=both"], "must be one of unified, separate"),
        (["mask_channels=50"], "must be a multiple of norm_groups 16"),
        (["mask_channels=0"], "positive integers"),
        (["tower_dcn_convs=all"], "needs a deformable flavour"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(changes, text):
    with pytest.raises(InputError, match=text):
        changed_variant("nano", changes)


def test_the_command_refuses_before_it_reads_anything(tmp_path, capsys):
    words = ["train", "--annotations", "none.json", "-o", str(tmp_path / "run"), "--set", "kernel_size=5"]
    assert main(words) == 2
    assert "kernel_size must be 1 or 3, got 5" in capsys.readouterr().err
