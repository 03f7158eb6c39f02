"""What reducing the precision of each layer costs, whatever the engine: measured one by one.

A layer is looked at from both sides. Reduced alone, it shows its own harm. Left out alone, with all others reduced,
it shows what keeping it float would bring, which is less wherever another layer does the same harm again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from solov2_edge.errors import require
from solov2_edge.manifest import OUTPUT_NAMES
from solov2_edge.runtime.session import RawOutputs

__all__ = ["Effect", "Sensitivity", "measure_sensitivity", "noise_power", "signal_to_noise"]

Artefact = TypeVar("Artefact")
Figures = Mapping[str, float]

SILENT = 150.0  # dB: beyond float32's own rounding there is nothing to compare


@dataclass(frozen=True, slots=True)
class Effect:
    """What one group of layers does.

    Attributes:
        name: of the group.
        layers: its layers.
        alone: figures with these layers reduced and all others float.
        without: figures with these layers float and all others reduced.
    """

    name: str
    layers: tuple[str, ...]
    alone: Figures
    without: Figures


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Figures of every group, and of the ends between which they lie.

    Attributes:
        floating: figures with all layers float.
        reduced: figures with all layers reduced.
        effects: one per group, in the order given.
    """

    floating: Figures
    reduced: Figures
    effects: tuple[Effect, ...]

    def ranked(self, figure: str) -> list[Effect]:
        """Return the effects by one figure of the layers alone, most harmful first."""
        return sorted(self.effects, key=lambda effect: effect.alone[figure])


def measure_sensitivity(
    groups: Mapping[str, Collection[str]],
    build: Callable[[frozenset[str]], Artefact],
    measure: Callable[[Artefact], Figures],
    *,
    log: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sensitivity:
    """Build and measure two artefacts per group, and the two ends.

    Args:
        groups: name -> layers that are looked at together: single layers, or the blocks of a large network. Together
            they are all layers there are to reduce.
        build: from the layers to keep float to an artefact, or anything that stands for it.
        measure: from that to figures by name, higher is better: dB, points of AP.
        log: called with one line per group.
        progress: called with (artefacts measured, artefacts in all) after each.

    Raises:
        InputError: there is no group, or a group without layers.
    """
    require(bool(groups), "sensitivity needs layers to look at, got none")
    empty = [name for name, layers in groups.items() if not layers]
    require(not empty, f"every group needs layers, {', '.join(empty)} has none")
    say = log or (lambda _text: None)
    everything = frozenset(layer for layers in groups.values() for layer in layers)
    done, total = 0, 2 * len(groups) + 2

    def figures(kept: frozenset[str]) -> Figures:
        nonlocal done
        found = measure(build(kept))
        done += 1
        progress(done, total)
        return found

    floating, reduced = figures(everything), figures(frozenset())
    say(f"all float: {_line(floating)}; all reduced: {_line(reduced)}")
    effects = []
    for number, (name, layers) in enumerate(groups.items(), start=1):
        alone = figures(everything - frozenset(layers))
        without = figures(frozenset(layers))
        say(f"{number}/{len(groups)} {name}: alone {_line(alone)}; without it {_line(without)}")
        effects.append(Effect(name, tuple(layers), alone, without))
    return Sensitivity(floating, reduced, tuple(effects))


def signal_to_noise(exact: Sequence[RawOutputs], got: Sequence[RawOutputs]) -> dict[str, float]:
    """Return per output how far ``got`` is from ``exact`` over all pictures together, in dB of signal to noise.

    20 dB are a difference of a tenth of the signal's root mean square; at most 150 dB are told apart.
    """
    require(len(exact) == len(got) > 0, f"expected as many outputs as references, got {len(got)} for {len(exact)}")
    found = {}
    for name in OUTPUT_NAMES:
        pairs = [(getattr(a, name).astype(np.float64), getattr(b, name)) for a, b in zip(exact, got, strict=True)]
        signal = sum(float((a**2).sum()) for a, _ in pairs)
        noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
        found[name] = min(10 * float(np.log10(signal / noise)), SILENT) if noise > 0 and signal > 0 else SILENT
    return found


def noise_power(decibels: Figures) -> float:
    """Return noise over signal in power, the three outputs' together: any of them alone spoils an instance."""
    return float(sum(10 ** (-decibels[name] / 10) for name in OUTPUT_NAMES))


def _line(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
