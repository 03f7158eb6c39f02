from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.session import RawOutputs, Session

BATCH = np.zeros((1, 64, 96, 3), np.uint8)


def dimmed(raw: RawOutputs, factor: float) -> RawOutputs:
    return RawOutputs(raw.class_scores * np.float32(factor), raw.kernels, raw.mask_features)


def test_replays_one_output(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    session: Session = FakeSession(tiny_manifest, tiny_raw)
    assert session.run(BATCH) is tiny_raw
    assert session.run(BATCH) is tiny_raw
    assert (session.engine, session.providers, session.manifest) == ("fake", ("fake",), tiny_manifest)


def test_replays_a_sequence_and_starts_over(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    outputs = [dimmed(tiny_raw, 1), dimmed(tiny_raw, 0.5)]
    session = FakeSession(tiny_manifest, outputs)
    assert [session.run(BATCH) for _ in range(5)] == [outputs[i % 2] for i in range(5)]


def test_asks_a_function_with_the_batch(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    session = FakeSession(tiny_manifest, lambda batch: dimmed(tiny_raw, batch.mean() / 100))
    assert undecoded(session.run(BATCH + 50)).class_scores.max() == pytest.approx(0.45)


@pytest.mark.parametrize("batch", [BATCH[0], BATCH.astype(np.float32), BATCH[:, :, :64], "frame"])
def test_a_wrong_batch_is_refused_as_by_a_real_session(
    tiny_manifest: Manifest, tiny_raw: RawOutputs, batch: Any
) -> None:
    with pytest.raises(InputError, match="takes a uint8 batch"):
        FakeSession(tiny_manifest, tiny_raw).run(batch)


def test_outputs_of_another_network_are_refused(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    other = RawOutputs(tiny_raw.class_scores, tiny_raw.kernels, tiny_raw.mask_features[:, :8].copy())
    for outputs in (other, [tiny_raw, other]):
        with pytest.raises(InputError, match="their manifest promises"):
            FakeSession(tiny_manifest, outputs)
    session = FakeSession(tiny_manifest, lambda _: other)
    with pytest.raises(InputError, match="their manifest promises"):
        session.run(BATCH)
    with pytest.raises(InputError, match="at least one"):
        FakeSession(tiny_manifest, [])


def test_a_closed_session_does_not_run(tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    with FakeSession(tiny_manifest, tiny_raw) as session:
        session.run(BATCH)
    with pytest.raises(InputError, match="closed"):
        session.run(BATCH)
