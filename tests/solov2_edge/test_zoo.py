"""The table of published checkpoints is consistent."""

import dataclasses
import re
from urllib.parse import urlsplit

import pytest

from solov2_edge import zoo
from solov2_edge.errors import InputError
from solov2_edge.variants import VARIANTS
from solov2_edge.zoo import BUNDLED, LICENCES, ZOO, bundled_path, licence_of, published

PUBLISHED = [entry for entry in ZOO.values() if entry is not BUNDLED]


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_entries(entry):
    assert ZOO[entry.name] is entry
    assert urlsplit(entry.url).scheme == "https"
    assert urlsplit(entry.url).path.endswith("/" + entry.file_name)
    assert entry.variant in VARIANTS
    assert entry.licence in LICENCES.values()
    assert 29 < entry.ap < 43
    if entry.sha256_prefix is not None:
        assert re.fullmatch(r"[0-9a-f]{8}", entry.sha256_prefix)
        assert entry.file_name.endswith(f"-{entry.sha256_prefix}.pth")


def test_every_published_variant_is_there_once_per_publisher():
    assert len({(entry.source, entry.file_name) for entry in PUBLISHED}) == len(PUBLISHED) == 19
    assert len({entry.url for entry in PUBLISHED}) == len(PUBLISHED)
    light = {entry.variant for entry in PUBLISHED if entry.variant.startswith("light")}
    assert light == {"light-448-r18", "light-448-r34", "light-448-r50", "light-512-r50-dcnv1"}
    assert all(e.sha256_prefix for e in PUBLISHED if e.source == "open-mmlab/mmdetection")


@pytest.mark.parametrize("name", ["mmdet-light-448-r81", "mmdet-lite-448-r18", "MMDET-light-448-r18"])
def test_misspelt_names_get_a_hint(name):
    with pytest.raises(InputError, match=r"did you mean .*mmdet-light-448-r"):
        published(name)


def test_hopeless_names_are_sent_to_the_list():
    with pytest.raises(InputError, match="solov2-edge models"):
        published("zzz")


def test_the_bundled_one(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "zoo.py"))
    with pytest.raises(InputError, match="not in this installation"):
        bundled_path()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / BUNDLED.file_name).write_bytes(b"x")
    assert bundled_path() == (tmp_path / "assets" / BUNDLED.file_name).resolve()
    assert BUNDLED.variant in VARIANTS


def test_licences_by_hash_and_by_naming():
    assert licence_of("mmdetection", "75fa355b" + "0" * 56) == LICENCES["mmdetection"]
    assert licence_of("authors", "0" * 64).startswith("unknown; if you did not train it yourself: authors' release")
    assert licence_of("solov2-edge", "0" * 64) == "unknown"


def test_entries_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BUNDLED.name = "other"
