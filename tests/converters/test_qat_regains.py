"""A planted quantisation problem: what int8 loses by it, and what fine-tuning brings back in the real file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from solov2_edge.checkpoint import load_model, read_checkpoint, save_checkpoint
from solov2_edge.cli import main
from solov2_edge.converters import onnx_int8, tflite_judge
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import evaluate
from solov2_edge.zoo import bundled_path

SIZE = (96, 128)
BLOCKS = ("layer1.0", "layer2.0", "layer3.0", "layer3.1", "layer4.0")
SPREAD = 1.5  # standard deviation of the channels' logarithms

pytestmark = pytest.mark.slow


def unequal_channels(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights of the same float function whose channels differ in size by orders of magnitude.

    A ReLU passes a positive factor on, so that the second convolution of a block can take back what the norm of the
    first was multiplied by. Eight bits for the largest channel leave nothing for the small ones.
    """
    generator, planted = torch.Generator().manual_seed(0), dict(state)
    for block in BLOCKS:
        norm, second = f"backbone.{block}.bn1", f"backbone.{block}.conv2.weight"
        factor = torch.exp(torch.randn(len(state[f"{norm}.weight"]), generator=generator) * SPREAD)
        for name in (f"{norm}.weight", f"{norm}.bias"):
            planted[name] = state[name] * factor
        planted[second] = state[second] / factor.view(1, -1, 1, 1)
    return planted


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(__file__).resolve().parents[1] / "solov2_edge" / "coco_fixture.py"
    spec = importlib.util.spec_from_file_location("solov2_edge_discs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: Path = module.write_discs(tmp_path_factory.mktemp("discs"))
    return written


def test_fine_tuning_regains_what_unequal_channels_cost(discs: Path, tmp_path: Path, capsys) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for picture in discs.parent.glob("*.png"):
        (pictures / picture.name).write_bytes(picture.read_bytes())

    def train(name: str, start: Path, epochs: int, *more: str) -> Path:
        arguments = (
            *("train", "--annotations", str(discs), "--images", str(discs.parent), "--init", str(start)),
            *("--input-size", f"{SIZE[0]}x{SIZE[1]}", "--batch-size", "2", "--scale", "1", "1", "--colour", "0"),
            *("--epochs", str(epochs), "-o", str(tmp_path / name), "--json", "--quiet", *more),
        )
        assert main(list(arguments)) == 0
        return Path(json.loads(capsys.readouterr().out)["checkpoint"])

    def accuracy(checkpoint: Path, suffix: str = ".onnx", **options: object) -> float:
        path = checkpoint.with_suffix(suffix)
        export = export_onnx if suffix == ".onnx" else export_tflite
        with pytest.MonkeyPatch.context() as patch:
            for module in (onnx_int8, tflite_judge):  # what is to be measured may be refused
                patch.setattr(module, "judge_noise", lambda *_: {"all": 0.0})
            export(load_model(checkpoint)[0], path, height=SIZE[0], width=SIZE[1], **options)
        with load(path, threads=1) as segment:
            return evaluate(segment, discs, discs.parent).ap

    int8 = {"precision": "int8", "calibration": read_calibration(pictures, allow_small=True)}
    learnt = train("learnt", bundled_path(), 40, "--warmup-steps", "10")
    trained, planted = read_checkpoint(learnt), tmp_path / "planted.safetensors"
    save_checkpoint(planted, trained.spec, unequal_channels(trained.state))
    same = ("--learning-rate", "0.0004", "--warmup-steps", "4")
    tuned = train("tuned", planted, 20, "--qat", "--calibrate", str(pictures), "--allow-small", *same)
    control = train("control", planted, 20, *same)

    exact = accuracy(planted)
    lost, regained, without = (accuracy(checkpoint, **int8) for checkpoint in (planted, tuned, control))
    lite_lost, lite_regained = (accuracy(checkpoint, ".tflite", **int8) for checkpoint in (planted, tuned))
    print(f"float {exact:.1f}, int8 {lost:.1f}, fine-tuned with rounding {regained:.1f}, without {without:.1f}")
    print(f"TFLite: int8 {lite_lost:.1f}, fine-tuned with the rounding of ONNX {lite_regained:.1f}")
    assert exact > 60
    assert lost < exact - 10
    assert regained - lost > 0.5 * (exact - lost)
    assert regained > without
    assert lite_regained > lite_lost + 10
