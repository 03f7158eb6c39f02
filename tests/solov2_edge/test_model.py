"""The networks: names, sizes and parameter counts of the published ones, cost of nano, batching."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from solov2_edge.errors import InputError
from solov2_edge.model import SOLOv2
from solov2_edge.spec import ModelSpec
from solov2_edge.variants import VARIANTS, variant

Listing = Callable[[str], dict[str, tuple[int, ...]]]

PARAMETERS = {  # counted on mmdetection's own modules
    "light-448-r18": 18_271_760,
    "light-448-r34": 28_379_920,
    "light-448-r50": 31_340_560,
    "light-512-r50-dcnv1": 33_185_054,
    "light-448-r50-dcnv2": 33_516_965,
}


def _on_meta(spec: ModelSpec) -> SOLOv2:
    with torch.device("meta"):
        return SOLOv2(spec)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts_are_those_of_the_published_networks(name: str, count: int) -> None:
    assert sum(p.numel() for p in _on_meta(variant(name)).parameters()) == count


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("light-448-r18", "r18"),
        ("light-448-r34", "r34"),
        ("light-448-r50", "r50"),
        ("light-448-r50-dcnv2", "r50_dcn"),
        ("light-512-r50-dcnv1", "r50_dcn512"),
    ],
)
def test_tensor_names_and_shapes_are_mmdetections(listing: Listing, name: str, keys: str) -> None:
    got = {key: tuple(value.shape) for key, value in _on_meta(variant(name)).state_dict().items()}
    assert got == listing(keys)


def test_nano_is_phone_class() -> None:
    model = _on_meta(variant("nano", ("nucleus",)))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 448, 448, device="meta"))
    assert 4.5e9 < counter.get_total_flops() < 5.5e9
    assert sum(p.numel() for p in model.parameters()) < 2e6


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_output_shapes(name: str) -> None:
    spec = variant(name)
    out = _on_meta(spec)(torch.empty(2, 3, 96, 160, device="meta"))
    assert out.class_logits.shape == (2, 3872, spec.num_classes)
    assert out.kernels.shape == (2, 3872, spec.mask_channels)
    assert out.mask_features.shape == (2, spec.mask_channels, 24, 40)


def test_a_batch_equals_its_pictures_one_by_one(tiny_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = SOLOv2(tiny_spec).eval()
    images = torch.randn(3, 3, 96, 128)
    with torch.inference_mode():
        together = model(images)
        for i in range(3):
            alone = model(images[i : i + 1])
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[i], b[0], rtol=1e-4, atol=1e-5)


def test_every_parameter_learns(tiny_dcn_spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = SOLOv2(tiny_dcn_spec)
    sum(o.square().mean() for o in model(torch.randn(2, 3, 64, 64))).backward()  # type: ignore[union-attr]  # a tensor
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_sizes_that_do_not_fit_the_pyramid_are_refused(tiny_spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="multiples of 32, got 100 x 128"):
        SOLOv2(tiny_spec)(torch.zeros(1, 3, 100, 128))
