"""The published SOLOv2 checkpoints and the bundled one. Standard library only.

AP is COCO val2017 mask AP as its publisher states it, in points of 100 (the bundled model: its own validation
pictures). Sources: the READMEs of the authors' release, mmdetection and AdelaiDet. The last eight digits of an
mmdetection file name are the first of its SHA-256; the others publish no hash.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError

__all__ = [
    "BUNDLED",
    "LICENCES",
    "ZOO",
    "Published",
    "bundled_path",
    "licence_of",
    "published",
]

# Family (``naming.FAMILIES``) -> licence of the weights its publisher offers.
LICENCES = {
    "authors": "authors' release: academic use (BSD-2-Clause), commercial use on request to the authors",
    "mmdetection": "Apache-2.0 (mmdetection's published weights)",
    "adelaidet": "AdelaiDet: non-commercial BSD-2-Clause; check the AdelaiDet licence before any other use",
}


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint.

    Attributes:
        name: what ``download`` takes.
        variant: key of ``variants.VARIANTS``.
        url: where it is; empty for the bundled one.
        file_name: name of the file.
        sha256_prefix: first hex digits of the file's SHA-256, or None where nobody publishes one.
        ap: published mask AP in points of 100, or None.
        licence: of the weights.
        source: who publishes it.
    """

    name: str
    variant: str
    url: str
    file_name: str
    sha256_prefix: str | None
    ap: float | None
    licence: str
    source: str


def _authors(name: str, variant: str, file_name: str, ap: float) -> Published:
    url = f"https://huggingface.co/xinlongwang/SOLO/resolve/main/{file_name}?download=true"
    return Published(f"authors-{name}", variant, url, file_name, None, ap, LICENCES["authors"], "WXinlong/SOLO")


def _mmdet(name: str, variant: str, folder: str, stamp: str, ap: float) -> Published:
    file_name = f"{folder}_{stamp}.pth"
    url = f"https://download.openmmlab.com/mmdetection/v2.0/solov2/{folder}/{file_name}"
    prefix = stamp.rpartition("-")[2]
    licence = LICENCES["mmdetection"]
    return Published(f"mmdet-{name}", variant, url, file_name, prefix, ap, licence, "open-mmlab/mmdetection")


def _adelaidet(name: str, file_name: str, ap: float) -> Published:
    url = f"https://huggingface.co/ZjuCv/AdelaiDet/resolve/main/{file_name}"
    return Published(name, name, url, file_name, None, ap, LICENCES["adelaidet"], "aim-uofa/AdelaiDet")


BUNDLED = Published(
    name="nano-nuclei",
    variant="nano",
    url="",
    file_name="nano-nuclei.safetensors",
    sha256_prefix=None,
    ap=53.6,
    licence="Apache-2.0 (trained on CC0 data)",
    source="bundled with solov2-edge",
)

ZOO: dict[str, Published] = {
    entry.name: entry
    for entry in (
        BUNDLED,
        _authors("light-448-r18", "light-448-r18", "SOLOv2_LIGHT_448_R18_3x.pth", 29.6),
        _authors("light-448-r34", "light-448-r34", "SOLOv2_LIGHT_448_R34_3x.pth", 32.0),
        _authors("light-448-r50", "light-448-r50", "SOLOv2_LIGHT_448_R50_3x.pth", 33.7),
        _authors("light-512-r50-dcnv1", "light-512-r50-dcnv1", "SOLOv2_LIGHT_512_DCN_R50_3x.pth", 36.4),
        _authors("full-r50-1x", "full-r50", "SOLOv2_R50_1x.pth", 34.8),
        _authors("full-r50-3x", "full-r50", "SOLOv2_R50_3x.pth", 37.5),
        _authors("full-r101-3x", "full-r101", "SOLOv2_R101_3x.pth", 39.1),
        _authors("full-r101-dcn-3x", "full-r101-dcnv2", "SOLOv2_R101_DCN_3x.pth", 41.4),
        _authors("full-x101-dcn-3x", "full-x101-dcnv2", "SOLOv2_X101_DCN_3x.pth", 42.4),
        _mmdet("light-448-r18", "light-448-r18", "solov2_light_r18_fpn_3x_coco", "20220511_083717-75fa355b", 29.7),
        _mmdet("light-448-r34", "light-448-r34", "solov2_light_r34_fpn_3x_coco", "20220511_091839-e51659d3", 31.9),
        _mmdet("light-448-r50", "light-448-r50", "solov2_light_r50_fpn_3x_coco", "20220512_165256-c93a6074", 33.7),
        _mmdet("full-r50-1x", "full-r50", "solov2_r50_fpn_1x_coco", "20220512_125858-a357fa23", 34.8),
        _mmdet("full-r50-3x", "full-r50", "solov2_r50_fpn_3x_coco", "20220512_125856-fed092d4", 37.5),
        _mmdet("full-r101-3x", "full-r101", "solov2_r101_fpn_3x_coco", "20220511_095119-c559a076", 39.1),
        _mmdet("full-r101-dcn-3x", "full-r101-dcnv2", "solov2_r101_dcn_fpn_3x_coco", "20220513_214734-16c966cb", 41.2),
        _mmdet("full-x101-dcn-3x", "full-x101-dcnv2", "solov2_x101_dcn_fpn_3x_coco", "20220513_214337-aef41095", 42.4),
        _adelaidet("adelaidet-r50", "SOLOv2_R50_3x.pth", 37.6),
        _adelaidet("adelaidet-r101", "SOLOv2_R101_3x.pth", 39.0),
    )
}


def published(name: str) -> Published:
    """Return the checkpoint called ``name``.

    Raises:
        InputError: no such name; the message has the closest ones.
    """
    if name in ZOO:
        return ZOO[name]
    close = difflib.get_close_matches(name, ZOO, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "see: solov2-edge models"
    raise InputError(f"no published checkpoint is called {name!r}; {hint}")


def bundled_path() -> Path:
    """Return where the bundled checkpoint lies in the installed package.

    Raises:
        InputError: this installation does not have it.
    """
    path = Path(__file__).resolve().parent / "assets" / BUNDLED.file_name
    if not path.is_file():
        raise InputError(
            f"the bundled checkpoint {BUNDLED.file_name} is not in this installation; reinstall solov2-edge"
        )
    return path


def licence_of(family: str, sha256: str) -> str:
    """Return the licence of a checkpoint's weights as far as its naming and hash tell.

    Naming shows which code trained it, not who: only a file whose hash is published is known to be a publisher's.
    """
    for entry in ZOO.values():
        if entry.sha256_prefix is not None and sha256.startswith(entry.sha256_prefix):
            return entry.licence
    if family not in LICENCES:
        return "unknown"
    return f"unknown; if you did not train it yourself: {LICENCES[family]}"
