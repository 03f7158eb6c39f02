"""The search for the cheapest float layers of an int8 file that keep its mask AP, in any format.

Which layers to try first follows from the noise each makes alone in the outputs before NMS, which a few pictures tell
steadily, per multiplication it would cost to keep it float; AP, which is noisy, decides only whether a whole file will
do. Costs are counted, not timed, so that the same pictures always give the same file; what the chosen file takes is
timed in the end, in turn with the two ends between which it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from solov2_edge.converters.held_out import HeldOut
from solov2_edge.converters.mixed_precision import Candidate, Choice, keep_float
from solov2_edge.converters.quantisable import Chosen, Quantisable, groups_of
from solov2_edge.converters.sensitivity import noise_power
from solov2_edge.converters.trials import Trials
from solov2_edge.errors import require
from solov2_edge.manifest import OUTPUT_NAMES
from solov2_edge.runtime.bootstrap import doubt, drop_interval
from solov2_edge.runtime.evaluate import Evaluation
from solov2_edge.runtime.machine import read_machine

__all__ = ["MixedSearch"]

MOST_LAYERS = 64  # more are looked at block by block: every group costs building and running a network


@dataclass(frozen=True, slots=True)
class MixedSearch:
    """A :data:`~solov2_edge.converters.quantisable.Chooser` for one accuracy budget.

    Attributes:
        held_out: annotated validation pictures, none of which calibrates.
        max_drop: points of mask AP that may be lost against float32 on them.
        log: called with one line per step.
    """

    held_out: HeldOut
    max_drop: float
    log: Callable[[str], None] = lambda _text: None

    def __post_init__(self) -> None:
        require(self.held_out.annotations is not None, "a budget of AP needs annotated pictures; name annotations")
        require(self.max_drop >= 0, f"the largest drop must be at least 0 points of AP, got {self.max_drop:g}")

    def __call__(self, network: Quantisable) -> Chosen:
        """Choose the layers that stay float.

        Raises:
            GateError: the budget cannot be met with at least half of the network in integers.
        """
        trials = Trials(network.suffix, network.build(frozenset(layer.name for layer in network.layers)), self.held_out)
        exact = trials.exact
        assert exact is not None  # there are annotations
        measured: dict[frozenset[str], Evaluation] = {}

        def drop_of(kept: frozenset[str]) -> float:
            if kept not in measured:
                measured[kept] = trials.evaluation(network.build(kept))
            return exact.ap - measured[kept].ap

        nothing: frozenset[str] = frozenset()
        plain = drop_of(nothing)
        self.log(f"all int8: {plain:.2f} points of AP lost on {exact.pictures} pictures, {self.max_drop:g} are allowed")
        by = "layer" if len(network.layers) <= MOST_LAYERS else "block"
        choice = Choice((), plain, 0.0, 1)
        if plain > self.max_drop:
            candidates = self._candidates(network, trials, by)
            choice = keep_float(
                candidates, lambda kept: kept, drop_of, self.max_drop, may=network.still_int8, log=self.log
            )
        interval = drop_interval(exact.matches, measured[choice.layers].matches)
        return Chosen(
            choice.layers,
            {
                **network.facts,
                "kept_float": [layer.name for layer in network.layers if layer.name in choice.layers],
                "kept_share": choice.cost,
                "chosen_by": by,
                "max_drop": self.max_drop,
                "drop": choice.drop,
                "drop_interval": None if interval is None else [interval.low, interval.high],
                "drop_all_int8": plain,
                "ap_float32": exact.ap,
                "pictures": self.held_out.to_manifest(),
                "doubt": doubt(interval, self.max_drop, exact.pictures),
                "tried": choice.tried,
                "engine": trials.engine,
                "milliseconds": self._times(network, trials, choice.layers),
            },
        )

    def _candidates(self, network: Quantisable, trials: Trials, by: str) -> list[Candidate]:
        """Return every group with the noise it makes alone, and its part of all multiplications."""
        groups = groups_of(network.layers, by)
        everything = frozenset(layer.name for layer in network.layers)
        work = {layer.name: layer.work for layer in network.layers}
        found = []
        for number, (name, layers) in enumerate(groups.items(), start=1):
            decibels = trials.noise(network.build(everything - frozenset(layers)))
            said = ", ".join(f"{output.replace('_', ' ')} {decibels[output]:.0f}" for output in OUTPUT_NAMES)
            self.log(f"{number}/{len(groups)} {name} alone in int8: {said} dB")
            cost = sum(work[layer] for layer in layers) / sum(work.values())
            found.append(Candidate(name, layers, noise_power(decibels), cost))
        return found

    def _times(self, network: Quantisable, trials: Trials, kept: frozenset[str]) -> dict[str, Any] | None:
        """Return median milliseconds of the chosen file and of both ends; None where another engine is to run it."""
        if network.facts.get("target", "cpu") != "cpu":
            return None
        everything = frozenset(layer.name for layer in network.layers)
        files = {"float32": network.build(everything), "all_int8": network.build()}
        if kept:
            files["chosen"] = network.build(kept)
        times = trials.milliseconds(files)
        return {"chosen": times["all_int8"], **times, "cpu": read_machine().cpu}
