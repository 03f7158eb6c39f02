"""ModelSpec: every number that defines a SOLOv2 network and the frame of reference of its inputs.

Reference: Wang et al., SOLOv2 (NeurIPS 2020) and the authors' released code; where text and code differ the
code is followed (the Gaussian decay, the 0.05 and top-100 cuts, DCN in the last tower convolution only, six
discrete training scales). Standard library only: devices read specs too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from solov2_edge.backbone_spec import BackboneSpec, one_of, positive
from solov2_edge.errors import InputError, require

__all__ = ["BackboneSpec", "ModelSpec"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)  # RGB, 0..255
_RESNET18 = BackboneSpec()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One SOLOv2 network. A family of widths, not a list of special cases; see ``variants`` for the named ones.

    Attributes:
        name: name of the variant, for example ``"light-448-r18"``.
        class_names: one name per class channel, in channel order.
        backbone: the residual network.
        pyramid_width: channels of P2..P6.
        tower_depth: 3x3 convolutions in each head tower (class and kernel) before its output convolution.
        tower_width: channels of the towers.
        tower_dcn: deformable flavour of both towers, in the convolutions ``tower_dcn_convs`` names.
        tower_dcn_convs: ``"last"`` (the authors' light models) or ``"all"`` (their full ones).
        mask_width: hidden channels of the mask feature branch.
        mask_channels: E, channels of the mask features, equal to the length of a 1x1 dynamic kernel.
        mask_dcn: deformable flavour of every convolution of the unified mask feature branch, its 1x1 included.
        mask_features: ``"unified"``, one map for all levels, or ``"separate"``, one per level (the paper's Table 3d).
        feature_coordinates: whether the mask feature branch gets coordinates (Table 3b).
        kernel_coordinates: whether the kernel tower gets coordinates (Table 3b).
        kernel_size: side of the dynamic kernels, 1 or 3 (Table 3a); see :attr:`kernel_length`.
        norm_groups: groups of every GroupNorm (32 in the reference).
        grids: cells per side of each level's grid (S_l x S_l cells).
        strides: stride of the map each grid is resized from; also the area filter's bound in quarter-scale pixels.
        scale_ranges: (low, high) per level, inclusive, in resized-input pixels: an object trains on the levels whose
            range holds sqrt(box width x box height).
        resize_box: (short, long) in pixels; a frame is scaled until it touches the box from inside, aspect kept.
        train_short_sides: short sides a training picture is scaled to, long side capped by ``resize_box``.
        mean, std: per channel in ``channel_order``, of pixel values 0..255.
        channel_order: ``"rgb"`` or ``"bgr"`` (AdelaiDet's Caffe-style weights).
        stuff_names: what has an extent but is not counted (sky, grass), in channel order of the semantic branch; empty:
            the network has no such branch and segments instances only.
    """

    name: str
    class_names: tuple[str, ...]
    backbone: BackboneSpec = _RESNET18
    pyramid_width: int = 256
    tower_depth: int = 2
    tower_width: int = 256
    tower_dcn: str = "none"
    mask_width: int = 128
    mask_channels: int = 128
    norm_groups: int = 32
    grids: tuple[int, ...] = (40, 36, 24, 16, 12)
    strides: tuple[int, ...] = (8, 8, 16, 32, 32)
    scale_ranges: tuple[tuple[float, float], ...] = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
    resize_box: tuple[int, int] = (448, 768)
    train_short_sides: tuple[int, ...] = (512, 480, 448, 416, 384, 352)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channel_order: str = "rgb"
    tower_dcn_convs: str = "last"
    mask_dcn: str = "none"
    mask_features: str = "unified"
    feature_coordinates: bool = True
    kernel_coordinates: bool = True
    kernel_size: int = 1
    stuff_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.name), "name must not be empty; give the variant a name")
        require(len(self.class_names) >= 1, "class_names must hold at least one name, got none")
        require(
            all(isinstance(name, str) and name for name in self.class_names),
            f"class_names must be non-empty strings, got {self.class_names!r}",
        )
        require(
            isinstance(self.stuff_names, tuple) and all(isinstance(name, str) and name for name in self.stuff_names),
            f"stuff_names must be a tuple of non-empty strings, got {self.stuff_names!r}",
        )
        require(
            len({*self.class_names, *self.stuff_names}) == len({*self.class_names}) + len(self.stuff_names),
            f"stuff_names must differ from one another and from class_names, got {self.stuff_names!r}",
        )
        widths = (self.pyramid_width, self.tower_depth, self.tower_width, self.mask_width, self.mask_channels)
        positive("pyramid, tower and mask sizes", widths, 5)
        positive("norm_groups", (self.norm_groups,), 1)
        for label, width in (("tower", self.tower_width), ("mask", self.mask_width), ("mask", self.mask_channels)):
            require(
                width % self.norm_groups == 0,
                f"{label} width {width} must be a multiple of norm_groups {self.norm_groups}; change one of them",
            )
        one_of("tower_dcn", self.tower_dcn, ("none", "v1", "v2"))
        for label, values in (("grids", self.grids), ("strides", self.strides)):
            positive(label, values, 5)
        require(
            len(self.scale_ranges) == 5 and all(len(r) == 2 and 0 <= r[0] < r[1] for r in self.scale_ranges),
            f"scale_ranges must be 5 rising (low, high) pairs, got {self.scale_ranges!r}",
        )
        positive("resize_box", self.resize_box, 2)
        require(
            self.resize_box[0] <= self.resize_box[1],
            f"resize_box is (short, long), got {self.resize_box!r}; swap the two",
        )
        require(
            len(self.train_short_sides) >= 1 and all(s > 0 for s in self.train_short_sides),
            f"train_short_sides must hold positive pixel counts, got {self.train_short_sides!r}",
        )
        require(
            len(self.mean) == 3 and len(self.std) == 3 and all(s > 0 for s in self.std),
            f"mean and std must hold 3 numbers with std > 0, got {self.mean!r} and {self.std!r}",
        )
        one_of("channel_order", self.channel_order, ("rgb", "bgr"))
        self._check_choices()

    def _check_choices(self) -> None:
        """Refuse contradictions among the ways to build head and mask feature branch."""
        one_of("tower_dcn_convs", self.tower_dcn_convs, ("last", "all"))
        one_of("mask_dcn", self.mask_dcn, ("none", "v1", "v2"))
        one_of("mask_features", self.mask_features, ("unified", "separate"))
        for label, flag in (
            ("feature_coordinates", self.feature_coordinates),
            ("kernel_coordinates", self.kernel_coordinates),
        ):
            require(isinstance(flag, bool), f"{label} must be true or false, got {flag!r}")
        whole = isinstance(self.kernel_size, int) and not isinstance(self.kernel_size, bool)
        require(whole and self.kernel_size in (1, 3), f"kernel_size must be 1 or 3, got {self.kernel_size!r}")
        require(
            self.tower_dcn != "none" or self.tower_dcn_convs == "last",
            "tower_dcn_convs='all' needs a deformable flavour, got tower_dcn='none'; set tower_dcn to v1 or v2",
        )
        require(
            self.mask_dcn == "none" or self.mask_features == "unified",
            f"mask_dcn={self.mask_dcn!r} is for unified mask features, got separate ones; use mask_dcn='none'",
        )

    @property
    def num_classes(self) -> int:
        """Class channels of the head; there is no background channel."""
        return len(self.class_names)

    @property
    def panoptic_names(self) -> tuple[str, ...]:
        """Name of each label of a panoptic segment: the things (``class_names``), then the stuff."""
        return self.class_names + self.stuff_names

    @property
    def num_cells(self) -> int:
        """Grid cells over all levels: rows of class scores and kernels (3872 for the reference's grids)."""
        return sum(s * s for s in self.grids)

    @property
    def kernel_length(self) -> int:
        """Numbers in a dynamic kernel: E for 1x1, 9 E for 3x3 (channels, then rows, then columns)."""
        return self.mask_channels * self.kernel_size**2

    @property
    def feature_channels(self) -> int:
        """Channels of the mask features as an artefact gives them: E, or 5 E where each level has its own."""
        return self.mask_channels * (len(self.grids) if self.mask_features == "separate" else 1)

    @property
    def plain_kernels(self) -> bool:
        """Whether a mask is a kernel times the mask features: 1x1 kernels on unified features, as in the paper."""
        return self.kernel_size == 1 and self.mask_features == "unified"

    @property
    def dcn(self) -> str:
        """Deformable flavour of the network: ``"none"``, ``"v1"`` or ``"v2"``."""
        flavours = (self.backbone.dcn, self.tower_dcn, self.mask_dcn)
        return next((flavour for flavour in flavours if flavour != "none"), "none")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain data; :meth:`from_dict` reads it back to an equal spec.

        Fields that came later are left out where they say what they always were, so that older versions read it.
        """
        data = asdict(self)
        backbone: dict[str, Any] = data["backbone"]
        _drop_defaults(data, ModelSpec, _ADDED_TO_SPEC)
        _drop_defaults(backbone, BackboneSpec, _ADDED_TO_BACKBONE)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Rebuild a spec from :meth:`to_dict` data, lists allowed where tuples stood.

        Raises:
            InputError: a field is unknown, missing or out of range.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"a model spec must be a JSON object, got {type(data).__name__}; re-export the artefact")
        values = dict(data)
        backbone = values.pop("backbone", None)
        if backbone is not None:
            values["backbone"] = _build(BackboneSpec, backbone, "backbone")
        spec: ModelSpec = _build(cls, values, "model spec")
        return spec


_ADDED_TO_BACKBONE = ("groups", "base_width")
_ADDED_TO_SPEC = (
    "tower_dcn_convs",
    "mask_dcn",
    "mask_features",
    "feature_coordinates",
    "kernel_coordinates",
    "kernel_size",
    "stuff_names",
)


def _drop_defaults(data: dict[str, Any], cls: type[Any], names: tuple[str, ...]) -> None:
    """Remove from ``data`` the fields ``names`` that hold the default of dataclass ``cls``."""
    defaults = {f.name: f.default for f in fields(cls)}
    for name in names:
        if data[name] == defaults[name]:
            del data[name]


def _build(cls: type[Any], data: Any, where: str) -> Any:
    """Construct a dataclass from JSON data; unknown and missing fields become one sentence."""
    require(isinstance(data, Mapping), f"{where} must be a JSON object, got {type(data).__name__}")
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(data) - known)
    require(not unknown, f"{where} has unknown fields {unknown}; it was written by another version of solov2-edge")
    try:
        return cls(**{key: _freeze(value) for key, value in data.items()})
    except TypeError as error:
        raise InputError(f"{where} is not valid: {error}") from error


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value
