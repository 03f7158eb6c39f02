import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from solov2_edge.checkpoint import save_checkpoint
from solov2_edge.converters.verification import STAGES, Finding, Generated, Verification
from solov2_edge.converters.verify import verify
from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY, manifest_path, sha256_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(8)
    for name, shape in (("wide.png", (40, 90, 3)), ("tall.png", (90, 50, 3)), ("small.png", (9, 7, 3))):
        blurred = cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (5, 5), 0)
        cv2.imwrite(str(folder / name), blurred)
    return folder


@pytest.mark.parametrize("name", ["plain", "native_half", "lowered"])
def test_a_fresh_artefact_passes(name, request, pictures):
    exported = request.getfixturevalue(name)
    steps = []
    found = verify(exported.path, exported.checkpoint, pictures, progress=lambda *step: steps.append(step))
    assert found.passed, found.verdict
    assert steps == [(n, 5) for n in range(1, 6)]
    assert found.generated.expected > 0
    assert found.verdict.startswith("passed: ")
    assert found.verdict.endswith(" on 2 generated frames")
    pictures = {"wide.png", "tall.png", "small.png", "(one colour)", "(noise)", "(all pictures)", "(export probes)"}
    assert {f.picture for f in found.findings} == pictures
    assert list(found.verdicts) == list(STAGES)
    assert {f.stage for f in found.findings} == set(STAGES)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["passed"] is True
    assert data["pictures"] == 3
    assert data["generated"]["frames"] == 2
    assert {row["quantity"] for row in data["stages"]} >= {"kernels", "recall at 0.5", "precision at 0.9", "score"}


@pytest.fixture(scope="module")
def spoilt(plain, tmp_path_factory):
    """The plain artefact with one convolution of the kernel tower slightly wrong, and an honest manifest."""
    path = tmp_path_factory.mktemp("spoilt") / "spoilt.onnx"
    model = onnx.load(plain.path)
    weight = next(w for w in model.graph.initializer if "conv_kernel.weight" in w.name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.02), weight.name))
    path.write_bytes(model.SerializeToString())
    manifest = replace(plain.manifest, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    manifest_path(path).write_text(manifest.to_json())
    return path


def test_a_spoilt_artefact_fails_and_says_where(spoilt, plain, pictures):
    found = verify(spoilt, plain.checkpoint, pictures, limit=1)
    assert not found.passed
    assert "network kernels is" in found.verdict
    failed = {(row.stage, row.quantity) for row in found.summary() if not row.passed}
    assert ("network", "kernels") in failed
    assert ("network", "class_scores") not in failed
    assert not any(stage in ("preprocess", "decode") for stage, _ in failed)
    assert (found.pictures, found.generated.frames) == (1, 2)


def test_a_manifest_that_claims_what_is_not_so_is_told(spoilt, plain, pictures):
    found = verify(spoilt, plain.checkpoint, pictures, limit=1)
    assert found.verdicts == {
        "preprocess": True,
        "network": False,
        "decode": True,
        "instances": found.verdicts["instances"],
        "manifest": False,
    }
    claims = {f.quantity: f.passed for f in found.findings if f.stage == "manifest"}
    assert claims == {
        "class_scores as recorded": True,
        "kernels as recorded": False,
        "mask_features as recorded": True,
    }


def test_a_manifest_without_claims_has_none_to_check(plain, pictures, tmp_path):
    path = tmp_path / "silent.onnx"
    model = onnx.load(plain.path)
    silent = replace(plain.manifest, parity={})
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = silent.embedded().to_json()
    path.write_bytes(model.SerializeToString())
    found = verify(path, plain.checkpoint, pictures, limit=1)
    assert found.passed
    assert "manifest" not in found.verdicts


def test_the_worst_pictures_are_written(spoilt, plain, pictures, tmp_path):
    found = verify(spoilt, plain.checkpoint, pictures, worst_pictures=tmp_path / "worst", worst_count=2)
    assert len(found.worst) <= 2
    assert sorted(p.name for p in (tmp_path / "worst").iterdir()) == [Path(w.path).name for w in found.worst]
    same = verify(plain.path, plain.checkpoint, pictures, worst_pictures=tmp_path / "worst")
    assert same.worst == ()
    assert list((tmp_path / "worst").iterdir()) == []


def test_another_checkpoint_is_refused_unless_allowed(plain, pictures, tmp_path, make_model):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, plain.model.spec, make_model(plain.model.spec, seed=1).state_dict())
    with pytest.raises(InputError, match="made from another checkpoint"):
        verify(plain.path, other, pictures)
    assert not verify(plain.path, other, pictures, limit=1, allow_other_checkpoint=True).passed


def test_another_network_is_refused(plain, pictures, tmp_path, make_model):
    spec = replace(plain.model.spec, mask_channels=16)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, spec, make_model(spec).state_dict())
    with pytest.raises(InputError, match="different networks: kernel_length 8 and 16"):
        verify(plain.path, other, pictures, allow_other_checkpoint=True)


@pytest.mark.parametrize(("images", "limit"), [([], None), (["x.png"], 0)])
def test_no_pictures_are_refused(plain, images, limit):
    with pytest.raises(InputError, match="at least"):
        verify(plain.path, plain.checkpoint, images, limit=limit)


def test_generated_frames_are_counted_apart():
    """A frame of noise has more chance instances than the pictures have real ones."""
    found = Verification("x.onnx", "x.pth", "int8", "engine", 3, 9, 10, (), (), Generated(2, 300, 400))
    assert found.verdict == "passed: 9 of 10 instances matched on 3 pictures, 300 of 400 on 2 generated frames"
    assert found.to_dict()["generated"] == {"frames": 2, "matched": 300, "expected": 400}


def test_summary_prefers_a_failure_to_a_larger_value():
    rows = (
        Finding("a", "network", "kernels", 0.5, 1.0, note="noisy"),
        Finding("b", "network", "kernels", 0.2, 0.1),
        Finding("c", "network", "kernels", float("nan"), 0.1),
    )
    found = Verification("x.onnx", "x.pth", "fp32", "engine", 3, 0, 0, rows)
    (row,) = found.summary()
    assert (row.picture, row.passed) == ("c", False)
    assert not found.passed
    assert found.to_dict()["stages"][0]["worst"] is None
