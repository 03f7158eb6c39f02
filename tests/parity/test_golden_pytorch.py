"""PyTorch against mmdetection 3.3.0 on the same weights: input, feature maps, raw outputs, instances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.preprocess import preprocess

OF_RANGE = 1e-4  # the design's bound on raw outputs, relative to their range
SCORES = 1e-4
MASK_IOU = 0.999


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.ptp(expected))


@pytest.fixture(scope="module")
def stages(golden: Any, reference: Any) -> dict[str, Any]:
    """Everything the reference computes for the golden picture."""
    geometry = reference.geometry(*golden.frame.shape[:2])
    batch = preprocess(golden.frame, geometry, "tensor", reference.spec)
    with torch.inference_mode():
        c_maps = reference.model.backbone(torch.from_numpy(batch))
        p_maps = reference.model.neck(c_maps)
    maps = dict(zip(["C2", "C3", "C4", "C5", "P2", "P3", "P4", "P5", "P6"], [*c_maps, *p_maps], strict=True))
    return {"geometry": geometry, "batch": batch, "maps": maps, "raw": reference.run_batch(batch)}


def test_the_input_tensor_is_bit_identical(golden: Any, stages: dict[str, Any]) -> None:
    geometry = stages["geometry"]
    assert stages["batch"].shape == tuple(golden.arrays["in/tensor_shape"])
    assert (geometry.resized_height, geometry.resized_width) == tuple(golden.arrays["in/resized_hw"])
    np.testing.assert_array_equal(stages["batch"][0, :, ::8, ::8], golden.arrays["in/tensor_every8"])


@pytest.mark.parametrize("name", ["C2", "C3", "C4", "C5", "P2", "P3", "P4", "P5", "P6"])
def test_feature_maps_have_the_recorded_statistics(golden: Any, stages: dict[str, Any], name: str) -> None:
    values = stages["maps"][name].double()
    got = [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
    np.testing.assert_allclose(got, golden.arrays[f"stat/{name}"], rtol=2e-4, atol=2e-5)


def test_raw_outputs(golden: Any, stages: dict[str, Any], reference: Any) -> None:
    with torch.inference_mode():
        logits = reference.model(torch.from_numpy(stages["batch"])).class_logits[0].numpy()
    raw = stages["raw"]
    assert _relative(logits, golden.arrays["out/class_logits"]) < OF_RANGE
    assert _relative(raw.kernels, golden.arrays["out/kernels"]) < OF_RANGE
    assert _relative(raw.mask_features[:, ::4, ::4], golden.arrays["out/mask_features_every4"]) < OF_RANGE


@pytest.mark.parametrize("decoder", ["oracle", "runtime"])
def test_instances(golden: Any, stages: dict[str, Any], reference: Any, decoder: str) -> None:
    if decoder == "oracle":
        instances = reference(golden.frame)
    else:
        instances = decode(stages["raw"], stages["geometry"], reference.spec, reference.options)
    expected = golden.arrays["result/scores"]
    assert len(instances) == len(expected)
    np.testing.assert_allclose(instances.scores, expected, atol=SCORES)
    masks, recorded = instances.masks, golden.masks
    # Scores that differ by less than the bound may swap places: match by label and overlap.
    free = set(range(len(recorded)))
    for mask, label, score in zip(masks, instances.labels, instances.scores, strict=True):
        near = [
            j
            for j in free
            if golden.arrays["result/labels"][j] == label and abs(float(expected[j]) - float(score)) < SCORES
        ]
        ious = [_iou(mask, recorded[j]) for j in near]
        assert ious, f"no recorded instance of class {label} with score {score}"
        best = int(np.argmax(ious))
        assert ious[best] >= MASK_IOU
        free.remove(near[best])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.logical_or(a, b).sum()
    return 1.0 if union == 0 else float(np.logical_and(a, b).sum() / union)
