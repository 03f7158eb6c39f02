from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.variants import variant

SPEC = variant("nano")


@pytest.mark.parametrize("count", [0, 1, 5, 20, 100])
@pytest.mark.parametrize(("frame", "size"), [((1080, 1920), (448, 448)), ((300, 200), (224, 224))])
def test_as_many_instances_as_planted(count: int, frame: tuple[int, int], size: tuple[int, int]) -> None:
    geometry = fixed_geometry(*frame, *size)
    raw = planted_outputs(SPEC, geometry, count)
    assert np.count_nonzero(raw.class_scores > 0.1) == 3 * count
    # Nothing but decoding's own thresholds decides: the copies fall to Matrix NMS, and no limit cuts.
    instances = decode(raw, geometry, SPEC, DecodeOptions(max_instances=500, nms_kernel="linear"))
    assert len(instances) == count
    assert instances.masks.sum(axis=0).max(initial=0) <= 1, "discs must not overlap"
    assert sorted(instances.labels) == sorted(i % SPEC.num_classes for i in range(count))


def test_discs_are_round_and_where_the_lattice_has_them() -> None:
    geometry = fixed_geometry(400, 400, 448, 448)
    (disc,) = decode(planted_outputs(SPEC, geometry, 1), geometry, SPEC)
    x0, y0, x1, y1 = disc.boxes[0]
    assert (x0 + x1) / 2 == pytest.approx(200, abs=1)
    assert (y0 + y1) / 2 == pytest.approx(200, abs=1)
    assert disc.areas[0] == pytest.approx(np.pi / 4 * (x1 - x0) * (y1 - y0), rel=0.02)


def test_no_room_is_said(tiny_manifest: Manifest) -> None:
    geometry = fixed_geometry(64, 96, 64, 96)
    with pytest.raises(InputError, match="room for at most 8 planted instances, 9 were asked for"):
        planted_outputs(tiny_manifest.spec, geometry, 9)
    spec = replace(tiny_manifest.spec, mask_channels=3, norm_groups=1)
    with pytest.raises(InputError, match="at least 4 mask channels, tiny has 3"):
        planted_outputs(spec, geometry, 1)
