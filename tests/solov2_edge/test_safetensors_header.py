"""One checkpoint, one sequence of bytes."""

from __future__ import annotations

import torch
from safetensors.torch import load, save

from solov2_edge.safetensors_header import with_sorted_metadata

TENSORS = {"b": torch.arange(5.0), "a": torch.tensor([[1, 2]], dtype=torch.int64)}
WORDS = {f"key {n}": f"näme {n}" for n in range(12)}


def test_the_same_weights_and_words_are_the_same_bytes() -> None:
    files = {with_sorted_metadata(save(TENSORS, dict(sorted(WORDS.items(), reverse=n % 2 == 0)))) for n in range(6)}
    assert len(files) == 1
    (data,) = files
    header = int.from_bytes(data[:8], "little")
    assert header % 8 == 0
    places = [data.index(f'"key {n}"'.encode()) for n in sorted(range(12), key=str)]
    assert places == sorted(places)
    back = load(data)
    assert all(torch.equal(back[name], TENSORS[name]) for name in TENSORS)


def test_a_file_without_words_stays_readable() -> None:
    assert torch.equal(load(with_sorted_metadata(save(TENSORS)))["b"], TENSORS["b"])
