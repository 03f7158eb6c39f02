"""Training recipes by name: every choice of a run in one frozen table, to be overridden option by option.

The authors' released configurations (SGD for 16 pictures a step, 36 epochs, one tenth of the rate at 27 and 33, 500
steps of warm-up, gradients clipped to norm 35, stage 1 and all batch norms of the backbone frozen, six short sides,
mirrored half of the time) and mmdetection 3's, which differs in warm-up and in what the dice loss is divided by.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from solov2_edge.augment_options import AugmentOptions
from solov2_edge.errors import InputError
from solov2_edge.spec import ModelSpec
from solov2_edge.train_options import TrainOptions

__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "recipe", "recipe_table"]

LIGHT_SIDES = (512, 480, 448, 416, 384, 352)  # of the authors' light configurations


@dataclass(frozen=True, slots=True)
class Recipe:
    """One named recipe.

    Attributes:
        about: what it is, in a few words.
        options: its choices; the rate is for ``rate_pictures`` pictures a step.
        rate_pictures: the rate grows with the pictures of a step, from this many; None: it is what it is.
        sides: where the short sides come from: ``"own"`` (the recipe's, none with one input size), ``"variant"``
            (all of the network's ``train_short_sides``) or ``"box"`` (the one it is tested at).
    """

    about: str
    options: TrainOptions
    rate_pictures: int | None = None
    sides: str = "own"

    def for_network(self, spec: ModelSpec) -> TrainOptions:
        """Return the choices for a network, short sides filled in."""
        sides = {"own": self.options.short_sides, "variant": spec.train_short_sides, "box": (spec.resize_box[0],)}
        return replace(self.options, short_sides=sides[self.sides])


_REFERENCE = TrainOptions(
    epochs=36,
    batch_size=16,
    input_size=None,
    short_sides=LIGHT_SIDES,
    optimizer="sgd",
    learning_rate=0.01,
    weight_decay=1e-4,
    decay_norms=True,
    schedule="steps",
    decay_epochs=(27, 33),
    warmup_steps=500,
    warmup_ratio=0.01,
    clip_norm=35.0,
    ema_decay=0.0,
    frozen_stages=1,
    norm_eval=True,
    mask_target="reference",
    dice_norm="pairs",
    augment=AugmentOptions(flip=True, scale=(1.0, 1.0), colour=0.0),
)

DEFAULT_RECIPE = "small-set"

RECIPES: dict[str, Recipe] = {
    "small-set": Recipe("a few hundred pictures, from scratch, at one input size", TrainOptions()),
    "fine-tune": Recipe(
        "own classes on a few dozen pictures, from trained weights (--init)",
        TrainOptions(epochs=30, batch_size=4, learning_rate=1e-3, warmup_steps=20),
    ),
    "light-3x": Recipe("the authors' light configurations", _REFERENCE, 16),
    "paper-3x": Recipe("the paper's long schedule, at the variant's own short sides", _REFERENCE, 16, "variant"),
    "paper-1x": Recipe(
        "the short schedule, at the one short side of testing",
        replace(_REFERENCE, epochs=12, decay_epochs=(8, 11)),
        16,
        "box",
    ),
    "mmdet-3x": Recipe(
        "mmdetection's light configurations",
        replace(_REFERENCE, warmup_ratio=1 / 3, dice_norm="cells"),
        16,
        "variant",
    ),
}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        InputError: there is none; the message names the closest ones.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=3) or list(RECIPES)
        raise InputError(f"unknown recipe {name!r}; expected one of: {', '.join(close)}")
    return RECIPES[name]


def recipe_table() -> str:
    """Return what every recipe contains, a few lines each, for ``train --help``."""
    return "\n".join(f"  {name}: {entry.about}\n{_contents(entry)}" for name, entry in RECIPES.items())


def _contents(entry: Recipe) -> str:
    o, a = entry.options, entry.options.augment
    marks = f", x0.1 at epochs {' and '.join(map(str, o.decay_epochs))}" if o.decay_epochs else ""
    rate = f"{o.learning_rate:g}" + (f" for {entry.rate_pictures} pictures a step" if entry.rate_pictures else "")
    own = f"short sides {' '.join(map(str, o.short_sides))}" if o.short_sides else ""
    size = "" if o.input_size is None else f"{o.input_size[0]}x{o.input_size[1]}, scale {a.scale[0]}..{a.scale[1]}"
    sides = {"own": own or size, "variant": "the variant's short sides", "box": "the variant's test size"}
    frozen = f"backbone frozen to stage {o.frozen_stages}, its batch norms fixed" if o.norm_eval else "all is trained"
    norm = {"pairs": "official", "cells": "mmdet"}[o.dice_norm]
    return (
        f"    {o.optimizer}, rate {rate}, weight decay {o.weight_decay:g}, {o.schedule}{marks}\n"
        f"    {o.epochs} epochs, batch {o.batch_size}, warm-up {o.warmup_steps} steps from {o.warmup_ratio:.3g}, "
        f"clip {o.clip_norm:g}, EMA {o.ema_decay:g}\n"
        f"    {sides[entry.sides]}; {frozen}; mask target {o.mask_target}, dice norm {norm}, colour {a.colour:g}"
    )
