import pytest
import torch
from torch import nn

from solov2_edge.converters.fold import fold_batch_norms, folded
from solov2_edge.errors import SolovEdgeError


def statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.01, 4.0)
    return norm.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_folded_equals_convolution_then_norm(bias):
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, bias=bias), statistics(nn.BatchNorm2d(5))
    weight, offset = folded(convolution.weight, convolution.bias, norm)
    images = torch.randn(2, 3, 8, 9)
    expected = norm(convolution(images))
    torch.testing.assert_close(nn.functional.conv2d(images, weight, offset), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "v1"])
def test_backbone_keeps_its_function_and_loses_every_norm(name, specs, make_model):
    from solov2_edge.converters.deform_export import replace_deform_convs

    backbone = make_model(specs[name]).backbone
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(images)
        replace_deform_convs(backbone, "lowered")
        fold_batch_norms(backbone)
        got = backbone(images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_norm_without_its_convolution_is_refused():
    with pytest.raises(SolovEdgeError, match="bn1"):
        fold_batch_norms(nn.ModuleDict({"bn1": nn.BatchNorm2d(4)}))
