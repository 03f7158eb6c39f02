"""The interpreter as an engine: the Session contract, and the same options as the runtime's load."""

import shutil
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch

from solov2_edge.converters import mil_interpreter
from solov2_edge.converters.mil_execute import execute
from solov2_edge.converters.mil_interpreter import load, runner
from solov2_edge.converters.mil_session import MilSession, feeds_of
from solov2_edge.converters.parity import differences, model_outputs
from solov2_edge.errors import InputError
from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path
from solov2_edge.runtime import load as runtime_load


@pytest.fixture(scope="module")
def exported(coreml_export):
    return coreml_export("fp32")


@pytest.fixture
def copied(exported, edit, tmp_path):
    """A copy without the manifest beside it."""
    path = tmp_path / "copy.mlpackage"
    shutil.copytree(exported.path, path)
    return edit(path)


def rewrite(copied, **changes):
    manifest = replace(Manifest.from_json(copied.model.description.metadata.userDefined[METADATA_KEY]), **changes)
    copied.model.description.metadata.userDefined[METADATA_KEY] = manifest.to_json()


def refused(copied, message):
    copied.save()
    with pytest.raises(InputError, match=message):
        MilSession(copied.path)


def test_segments_a_frame_the_export_never_saw(exported, frame):
    with load(exported.path, threads=1, score_threshold=0.05) as segment:
        raw = segment.raw(frame[..., ::-1])
        instances = segment(frame[..., ::-1])
        assert segment.engine.startswith("program interpreter, not Apple's runtime (coremltools ")
        assert segment.providers == ("interpreter",)
        assert segment.manifest == exported.manifest
    assert max(differences(raw, model_outputs(exported.model, frame[None], "image")).values()) < 1e-4
    assert len(instances) > 0
    assert np.ptp(raw.kernels) > 0.5


def test_streams_give_what_calls_give(exported, frame):
    frames = [frame, frame[::-1], frame[:, ::-1]]
    with load(exported.path, score_threshold=0.05) as segment:
        for result, one in zip(segment.stream(frames), frames, strict=True):
            wanted = segment(one)
            assert len(wanted) > 0
            np.testing.assert_array_equal(result.instances.scores, wanted.scores)
            np.testing.assert_array_equal(result.instances.boxes, wanted.boxes)


def test_load_has_the_runtime_s_options(exported):
    assert signature(load) == signature(runtime_load)
    for options, message in [
        ({"threads": 0}, "threads must be an integer"),
        ({"threads": True}, "threads must be an integer"),
        ({"providers": "all"}, "compute units need a Mac"),
        ({"providers": ("cpu", "interpreter")}, "one provider"),
        ({"provider_options": {"interpreter": {"a": 1}}}, "no provider options"),
        ({"engine": "onnxruntime"}, "engine 'interpreter'"),
        ({"score_treshold": 0.1}, "score_threshold"),
    ]:
        with pytest.raises(InputError, match=message):
            load(exported.path, **options)
    load(exported.path, engine="interpreter", providers=("interpreter",), provider_options={}).close()


def test_session_contract(exported, frame):
    session = MilSession(exported.path)
    for batch in (frame, frame[None].astype(np.float32), frame[None, :32], None):
        with pytest.raises(InputError, match=r"takes a uint8 batch \(1, 64, 96, 3\)"):
            session.run(batch)
    raw = session.run(frame[None])
    assert differences(raw, session.run(frame[None])) == dict.fromkeys(exported.manifest.outputs, 0.0)
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(frame[None])


def test_threads_are_given_back(exported, frame):
    before = torch.get_num_threads()
    seen = set()
    with MilSession(exported.path, threads=before + 1) as session:
        session.run(frame[None], lambda *_: seen.add(torch.get_num_threads()))
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_runner_needs_no_manifest(exported, copied, frame):
    del copied.model.description.metadata.userDefined[METADATA_KEY]
    refused(copied, "has no manifest")
    raw = runner(copied.path, exported.manifest.input)(frame[None])
    assert max(differences(raw, model_outputs(exported.model, frame[None], "image")).values()) < 1e-4
    with pytest.raises(InputError, match="batch"):
        runner(copied.path, exported.manifest.input)(frame)


def test_manifest_beside_of_another_package(exported, copied):
    manifest_path(copied.path).write_text(manifest_path(exported.path).read_text())
    MilSession(copied.path).close()
    copied.array(copied.op("conv"), "weight")[0] += 1
    refused(copied, "SHA-256")


def test_package_that_is_not_what_its_manifest_says(exported, copied):
    contract = exported.manifest.input
    rewrite(copied, input=replace(contract, height=96))
    refused(copied, r"computes with an input fp32\[1, 3, 64, 96\], its manifest says float \[1, 3, 96, 96\]")
    rewrite(copied, input=replace(contract, name="picture"))
    refused(copied, "its manifest says 'picture'")
    rewrite(copied, input=replace(contract, kind="tensor"))
    refused(copied, "takes input of type imageType, its manifest says a tensor")
    rewrite(copied, input=contract, outputs=("class_scores", "kernels", "masks"))
    refused(copied, "gives outputs")
    rewrite(copied, outputs=exported.manifest.outputs, spec=replace(exported.manifest.spec, class_names=("ant", "bee")))
    refused(copied, r"gives class_scores as fp32\[220, 3\], its manifest says float \[220, 2\]")
    rewrite(copied, spec=exported.manifest.spec)
    image = copied.model.description.input[0].type.imageType
    image.colorSpace = 10
    refused(copied, "colour space 10")
    image.colorSpace, image.width = 20, 128
    refused(copied, "an image of 64 x 128")


def test_pixels_reach_the_program_as_core_ml_hands_them_over(frame):
    contract = InputContract("image", 64, 96)
    planes = feeds_of(frame[None], contract)["image"]
    assert planes.dtype == torch.float32
    assert planes.shape == (1, 3, 64, 96)
    assert planes[0, 0, 5, 7] == frame[5, 7, 0]
    assert feeds_of(frame[None], contract, "bgr")["image"][0, 0, 5, 7] == frame[5, 7, 2]
    tensor = np.ones((1, 3, 64, 96), np.float32)
    assert (feeds_of(tensor, replace(contract, kind="tensor"))["image"].numpy() == tensor).all()


def test_float16_program_holds_float16_numbers_only(coreml_export, frame):
    exported = coreml_export("fp16")
    with MilSession(exported.path) as session:
        types = dict(output for operation in session.program.operations for output in operation.outputs)
        wrong, halves = [], 0

        def look(name, value):
            nonlocal halves
            if name in types and types[name].kind == "fp16":
                halves += 1
                if not torch.equal(value, value.half().float()):
                    wrong.append(name)

        execute(session.program, feeds_of(frame[None], session.manifest.input), look)
    assert not wrong
    assert halves > 200


def test_missing_toolchain_is_named(exported, monkeypatch):
    from solov2_edge.converters import mil_package
    from solov2_edge.errors import MissingDependencyError

    monkeypatch.setattr(mil_package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"needs coremltools.*solov2-edge\[coreml\]"):
        load(exported.path)
    assert mil_interpreter.ENGINE == "program interpreter, not Apple's runtime"
