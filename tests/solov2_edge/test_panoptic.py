"""The panoptic extension in PyTorch: the branch, its loss, its data, and the oracle against the runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from solov2_edge.augment import AugmentOptions, scale_and_crop
from solov2_edge.data import collate, read_pictures
from solov2_edge.errors import InputError
from solov2_edge.loss import BatchTargets, count_targets, solov2_losses
from solov2_edge.manifest import InputContract, Manifest, raw_names
from solov2_edge.model import PanopticOutputs, SOLOv2
from solov2_edge.panoptic_data import (
    PanopticPictures,
    PanopticSet,
    place_labels,
    read_panoptic_pictures,
    training_set,
    with_stuff,
)
from solov2_edge.reference import reference_from_model
from solov2_edge.runtime import PanopticOptions, RawOutputs, Segmenter
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.semantic import SemanticBranch
from solov2_edge.semantic_loss import SEMANTIC_WEIGHT, UNLABELLED, semantic_loss
from solov2_edge.spec import ModelSpec
from solov2_edge.train_options import TrainOptions

PLAIN = AugmentOptions(flip=False, scale=(1.0, 1.0), colour=0.0)


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> ModelSpec:
    return replace(tiny_spec, class_names=("disc", "bar"), stuff_names=("sand", "water"))


@pytest.fixture(scope="module")
def scenes(write_panoptic: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_panoptic(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def pictures(scenes: Path) -> PanopticPictures:
    return read_panoptic_pictures(scenes, scenes.parent / "images", scenes.parent / "panoptic")


def test_a_network_with_stuff_is_the_one_without_and_a_branch(spec: ModelSpec) -> None:
    x = torch.randn(2, 3, 64, 96)
    plain, panoptic = replace(spec, stuff_names=()), spec
    outputs = []
    for each in (plain, panoptic):
        torch.manual_seed(0)
        model = SOLOv2(each)
        assert any("semantic" in name for name in model.state_dict()) == bool(each.stuff_names)
        outputs.append(model.eval()(x))
    assert len(outputs[0]) == 3
    assert all(torch.equal(one, other) for one, other in zip(outputs[0], outputs[1][:3], strict=True))
    assert outputs[1].semantic_logits.shape == (2, 3, 16, 24)
    assert ModelSpec.from_dict(panoptic.to_dict()) == panoptic


def test_the_branch_computes_what_panoptic_fpn_draws(spec: ModelSpec) -> None:
    """Figure 3 of the paper: per level (convolution, norm, ReLU, x2) until 1/4, the sum, a 1x1 convolution."""
    torch.manual_seed(0)
    branch = SemanticBranch(spec).eval()
    pyramid = tuple(torch.randn(1, spec.pyramid_width, 64 // s, 96 // s) for s in (4, 8, 16, 32))
    state, total = branch.state_dict(), torch.zeros(1, spec.mask_width, 16, 24)
    for level, x in enumerate(pyramid):
        for step in range(max(level, 1)):
            name = f"conv_upsample_layers.{level}.conv.{step}"
            x = functional.conv2d(x, state[f"{name}.conv.weight"], padding=1)
            x = functional.group_norm(x, spec.norm_groups, state[f"{name}.gn.weight"], state[f"{name}.gn.bias"])
            x = x.relu()
            if level:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    expected = functional.conv2d(total, state["conv_logits.weight"], state["conv_logits.bias"])
    assert torch.allclose(branch(pyramid), expected, atol=1e-6)


@pytest.mark.parametrize(("stuff", "match"), [(("disc",), "differ"), (("a", "a"), "differ"), (("",), "non-empty")])
def test_stuff_names_are_checked(spec: ModelSpec, stuff: tuple[str, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(spec, stuff_names=stuff)


def test_the_loss_by_hand() -> None:
    """One picture of 4 x 8: equal logits cost ln 3 per labelled pixel, void pixels nothing."""
    logits = torch.zeros(1, 3, 1, 2)
    labels = torch.full((4, 8), UNLABELLED, dtype=torch.uint8)
    labels[0, :3] = torch.tensor([0, 1, 2], dtype=torch.uint8)
    assert semantic_loss(logits, [labels], torch.tensor(3.0)).item() == pytest.approx(SEMANTIC_WEIGHT * math.log(3))
    logits[:, 0] = 1.0
    sure = math.log(math.e + 2)
    expected = SEMANTIC_WEIGHT * (sure - 1 + 2 * sure) / 3
    assert semantic_loss(logits, [labels], torch.tensor(3.0)).item() == pytest.approx(expected, rel=1e-6)
    nothing = torch.full((4, 8), UNLABELLED, dtype=torch.uint8)
    assert semantic_loss(logits, [nothing], torch.tensor(0.0)).item() == 0


def test_the_loss_joins_the_others_and_reaches_the_branch(spec: ModelSpec, pictures: PanopticPictures) -> None:
    torch.manual_seed(0)
    model = SOLOv2(spec)
    images, targets = collate([PanopticSet(pictures, spec, (64, 96), PLAIN, 0)[0, index] for index in range(3)])
    assert count_targets(targets, 2).tolist()[2] == 3 * 64 * 92
    losses = solov2_losses(model(images), targets)
    sum(losses).backward()  # type: ignore[union-attr]  # a tensor, as there are losses
    assert losses.semantic.item() == pytest.approx(SEMANTIC_WEIGHT * math.log(3), rel=0.2)
    assert model.semantic_head is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.semantic_head.parameters())
    outputs, counts = model(images), count_targets(targets, 2)
    parts = [
        solov2_losses(PanopticOutputs(*(o[i : i + 1] for o in outputs)), _only(targets, i), counts=counts)
        for i in range(3)
    ]
    assert sum(part.semantic.item() for part in parts) == pytest.approx(losses.semantic.item(), rel=1e-5)


def _only(targets: BatchTargets, index: int) -> BatchTargets:
    return BatchTargets(targets.class_maps[index : index + 1], *([part[index]] for part in targets[1:]))


def test_pictures_are_read_with_things_stuff_void_and_crowds(pictures: PanopticPictures) -> None:
    assert pictures.class_names == ("disc", "bar")  # ascending category id
    assert pictures.stuff_names == ("sand", "water")
    assert len(pictures.files) == 3  # the one without things too
    picture, layers, labels = pictures.read(0)
    assert picture.shape == (64, 96, 3)
    assert sorted(labels) == [0, 1]
    things, semantic = layers[:-1].any(axis=0), layers[-1]
    assert (semantic[:8, :8] == 2).all()  # the crowd is a thing to the branch, and no object
    assert not things[:8, :8].any()
    assert (semantic[:, -4:] == UNLABELLED).all()
    assert (semantic[things] == 2).all()
    assert {0, 1} <= set(semantic[~things].tolist())
    assert pictures.read(2)[1].shape == (1, 64, 96)


def test_labels_turn_with_their_picture(spec: ModelSpec, pictures: PanopticPictures) -> None:
    """Sand is drawn at 90, water at 140, discs at 220, bars at 30: after any turn the picture says the label."""
    options = AugmentOptions(turns=True, scale=(0.7, 1.4), colour=0.0)
    samples = PanopticSet(pictures, spec, (96, 96), options, 3)
    kinds = set()
    for epoch in range(6):
        sample = samples[epoch, epoch % 2]
        grey = (sample.image[0] * spec.std[0] + spec.mean[0]).numpy()
        assert sample.semantic is not None
        labels = sample.semantic.numpy()
        # Interpolation mixes what lies within a few pixels, beyond the window's edge too.
        masks = np.pad(np.stack([labels == k for k in range(3)], -1).astype(np.uint8), ((3, 3), (3, 3), (0, 0)))
        inner = cv2.erode(masks, np.ones((7, 7), np.uint8))[3:-3, 3:-3] > 0
        sand, water, things = (grey[inner[..., k]] for k in range(3))
        kinds.add(labels.tobytes())
        assert ((sand > 85) & (sand < 115)).all()
        assert ((water > 135) & (water < 165)).all()
        assert ((things < 55) | (things > 190)).all()
        padding = (sample.image == 0).all(dim=0).numpy()
        assert (labels[padding] == UNLABELLED).all()
    assert len(kinds) == 6


def test_labels_are_placed_as_the_picture_is() -> None:
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    picture = np.repeat(labels[..., None], 3, -1)
    placed, window = scale_and_crop(picture, (32, 32), 1.0, np.random.default_rng(0))
    got = place_labels(labels, window)
    assert (got[24:] == UNLABELLED).all()
    # Four times as large: the middle of each block is the pixel itself, whatever interpolates.
    assert (got[2:24:4, 2::4] == labels).all()
    assert np.abs(placed[2:24:4, 2::4, 0].astype(int) - labels).max() <= 4
    _, window = scale_and_crop(picture, (16, 16), 2.0, np.random.default_rng(1))
    got = place_labels(labels, window)
    scaled = labels.repeat(4, 0).repeat(4, 1)
    y, x = window.origin
    assert (got == scaled[y : y + 16, x : x + 16]).all()


def test_what_does_not_belong_together_is_refused(spec: ModelSpec, pictures: PanopticPictures, scenes: Path) -> None:
    options = TrainOptions(input_size=(64, 96))
    plain = replace(spec, stuff_names=())
    assert isinstance(training_set(pictures, with_stuff(plain, pictures), options), PanopticSet)
    with pytest.raises(InputError, match="the pictures' stuff is sand, water, the network's none"):
        training_set(pictures, plain, options)
    with pytest.raises(InputError, match="copy-paste"):
        PanopticSet(pictures, spec, (64, 96), replace(PLAIN, copy_paste=0.5), 0)
    with pytest.raises(InputError, match="PNGs of segment ids are not in"):
        read_panoptic_pictures(scenes, scenes.parent / "images", scenes.parent)
    with pytest.raises(InputError):
        read_pictures(scenes, scenes.parent / "images")  # no instances


def test_runtime_and_oracle_give_the_same_map(spec: ModelSpec) -> None:
    """Thousands of overlapping masks and smooth logits, in frames of other sizes than the input."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:24].astype(np.float32)
    manifest = Manifest(spec, "onnx", "fp32", InputContract("image", 64, 96), outputs=raw_names(spec))
    things = 0
    for height, width in ((64, 96), (131, 90), (50, 201), (97, 145)):
        waves = rng.normal(size=(spec.mask_channels + 3, 3)) * (0.5, 0.5, 3)
        maps = np.stack([np.sin(a * y + b * x + c) for a, b, c in waves]).astype(np.float32)
        raw = RawOutputs(
            (rng.random((spec.num_cells, 2)) ** 60).astype(np.float32),
            rng.normal(size=(spec.num_cells, spec.mask_channels), loc=-0.4, scale=2.0).astype(np.float32),
            np.abs(maps[3:]),
            maps[:3],
        )
        frame = np.zeros((height, width, 3), np.uint8)
        reference = reference_from_model(SOLOv2(spec), input_size=(64, 96))
        reference.run_batch = lambda batch, raw=raw: raw  # type: ignore[method-assign, misc]
        with Segmenter(FakeSession(manifest, raw)) as segment:
            for options in (PanopticOptions(0.1, 0.5, 60), PanopticOptions(0.2, 0.9, 0)):
                got, expected = segment.panoptic(frame, options), reference.panoptic(frame, options)
                assert (got.ids == expected.ids).all()
                assert [(s.id, s.label, s.is_thing, s.area) for s in got.segments] == [
                    (s.id, s.label, s.is_thing, s.area) for s in expected.segments
                ]
                scores = [[s.score for s in each.segments if s.is_thing] for each in (got, expected)]
                assert scores[0] == pytest.approx(scores[1], abs=1e-5)
                things += len(scores[0])
                assert got.names == expected.names == ("disc", "bar", "sand", "water")
    assert things > 20


def test_the_oracle_refuses_a_network_without_stuff(tiny_spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="trained without stuff"):
        reference_from_model(SOLOv2(tiny_spec), input_size=(64, 64)).panoptic(np.zeros((64, 64, 3), np.uint8))
