import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.converters.tflite_norm import ChannelwiseGroupNorm


@pytest.mark.parametrize(("groups", "channels"), [(4, 16), (1, 6), (6, 6)])
def test_equals_group_norm(groups, channels):
    generator = torch.Generator().manual_seed(2)
    norm = nn.GroupNorm(groups, channels, eps=1e-3)
    nn.init.uniform_(norm.weight, -2, 2, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    # Channels with means and scales of their own: the spread between a group's channels is part of its variance.
    own = torch.rand(2, 1, channels, 1, 1, generator=generator) * 10
    x = torch.randn(1, channels, 5, 7, generator=generator) * own[0] + own[1]
    with torch.inference_mode():
        got, expected = ChannelwiseGroupNorm(norm)(x), norm(x)
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.ptp(expected.numpy()))


def test_a_constant_map_gives_the_shift():
    norm = nn.GroupNorm(2, 4)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2, 3, 4]))
    got = ChannelwiseGroupNorm(norm)(torch.full((1, 4, 3, 3), 50.0))
    np.testing.assert_allclose(got[0, :, 1, 1].detach(), [1, 2, 3, 4], atol=1e-4)
