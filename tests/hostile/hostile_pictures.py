"""Pictures that are cut, claim absurd sizes, are of unusual kinds, or are no pictures."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from hostile_case import Case, Kit, Make, encoded, png_claiming, well, write

__all__ = ["PICTURES"]

SEGMENT = "segment {onnx} {case}/bad.img -o {out}"
NOISE = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (9, 9), 3)
KINDS = (".png", ".jpg", ".webp", ".tiff", ".bmp")


def jpeg_with_exif(orientation: int) -> bytes:
    """Return a JPEG of 60 x 80 stored pixels (H, W) whose EXIF block turns it."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    data = encoded(".jpg", SMOOTH)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def sized(height: int, width: int) -> Callable[[Path], None]:
    """Return a judge: the COCO file counts one picture of that size (H, W), and its masks have it."""

    def judge(out: Path) -> None:
        data = json.loads((out / "instances.json").read_text())
        (picture,) = data["images"]
        assert (picture["height"], picture["width"]) == (height, width)
        assert data["annotations"], "the tiny network finds its one object in every picture"
        for annotation in data["annotations"]:
            assert annotation["segmentation"]["size"] == [height, width]

    return judge


def _jpeg_claiming(height: int, width: int) -> bytes:
    data = bytearray(encoded(".jpg", SMOOTH))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(height: int, width: int, bits: int = 24, offset: int = 54) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 54, 0, 0, offset)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)


def _webp(tag: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + tag + struct.pack("<I", len(body)) + body


def _tiff(*entries: tuple[int, int, int, int], after: bytes = b"") -> bytes:
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(struct.pack("<HHII", *e) for e in entries)
        + bytes(4)
        + after
    )


def _pillow(mode: str, form: str, **options: object) -> Make:
    """Return a maker that has Pillow write what OpenCV cannot."""

    def make(folder: Path, kit: Kit) -> None:
        from PIL import Image

        picture = Image.fromarray(SMOOTH[..., ::-1]).convert(mode)
        frames = [picture, picture.rotate(90)] if options.get("save_all") else []
        extra = {"append_images": frames[1:]} if frames else {}
        picture.save(folder / "bad.img", form, **options, **extra)

    return make


BAD: dict[str, tuple[bytes, str]] = {
    **{
        f"{suffix} cut at {share:.0%}": (encoded(suffix, SMOOTH)[: int(len(encoded(suffix, SMOOTH)) * share)], ".")
        for suffix in KINDS
        for share in (0.01, 0.3, 0.7, 0.97)
    },
    "a PNG claiming 65,000 x 65,000": (png_claiming(65_000, 65_000), "65000 x 65000"),
    "a PNG claiming 2^31 - 1 squared": (png_claiming(0x7FFFFFFF, 0x7FFFFFFF), "2147483647"),
    "a PNG claiming 2^32 - 1 in width": (png_claiming(1, 0xFFFFFFFF), "."),
    "a PNG claiming no height": (png_claiming(0, 9), "."),
    "a PNG of 3 bits": (png_claiming(9, 9, depth=3), "."),
    "a PNG of colour type 9": (png_claiming(9, 9, colour=9), "."),
    "a PNG of 16-bit claims only": (png_claiming(9000, 9000, depth=16), "."),
    "a JPEG claiming 65,535 x 65,535": (_jpeg_claiming(65_535, 65_535), "65535 x 65535"),
    "a JPEG claiming no width": (_jpeg_claiming(60, 0), "."),
    "a JPEG without frames": (b"\xff\xd8\xff\xd9", "."),
    "a JPEG of markers only": (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000, "."),
    "a JPEG of fill bytes": (b"\xff\xd8\xff" + b"\xff" * 100_000, "."),
    "a JPEG whose segment has no length": (b"\xff\xd8\xff\xe0\x00\x00" + bytes(40), "."),
    "a BMP claiming 80,000 x 80,000": (_bmp(80_000, 80_000), "80000 x 80000"),
    "a BMP claiming -2^31 rows": (_bmp(-(1 << 31), 9), "."),
    "a BMP of negative width": (_bmp(9, -9), "."),
    "a BMP of 7 bits": (_bmp(9, 9, bits=7), "."),
    "a BMP whose pixels lie beyond its end": (_bmp(9, 9, offset=1 << 30), "."),
    "a WebP claiming 16,384 squared": (_webp(b"VP8X", bytes(4) + b"\xff\x3f\x00\xff\x3f\x00"), "."),
    "a WebP of an unknown chunk": (_webp(b"VP9 ", bytes(40)), "."),
    "a WebP of one byte": (_webp(b"VP8L", b"\x2f"), "."),
    "a TIFF claiming 65,000 squared": (_tiff((256, 3, 1, 65_000), (257, 3, 1, 65_000)), "."),
    "a TIFF whose directory is itself": (b"II*\0" + struct.pack("<I", 0), "."),
    "a TIFF whose directory lies beyond its end": (b"II*\0" + struct.pack("<I", 0xFFFFFFF0), "."),
    "a TIFF of 65,535 entries": (b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + bytes(64), "."),
    "a TIFF with strips beyond its end": (
        _tiff((256, 3, 1, 8), (257, 3, 1, 8), (273, 4, 1, 0xFFFFFF00), (279, 4, 1, 0xFFFFFF00)),
        ".",
    ),
    "a TIFF counting 2^32 - 1 strips": (
        _tiff((256, 3, 1, 8), (257, 3, 1, 8), (273, 4, 0xFFFFFFFF, 8), (279, 4, 0xFFFFFFFF, 8)),
        ".",
    ),
    "a BigTIFF of nothing": (b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 60), "."),
    "a GIF": (b"GIF89a" + bytes(64), "JPEG, PNG"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "JPEG, PNG"),
    "a PDF": (b"%PDF-1.7\n" + bytes(64), "JPEG, PNG"),
    "a HEIC": (b"\0\0\0\x18ftypheic" + bytes(64), "JPEG, PNG"),
    "an AVIF": (b"\0\0\0\x18ftypavif" + bytes(64), "JPEG, PNG"),
    "a text": (b"a picture of a nut", "JPEG, PNG"),
    "one byte": (b"\xff", "."),
    "zeros": (bytes(100_000), "JPEG, PNG"),
    "float32 pixels": (encoded(".tiff", SMOOTH.astype(np.float32)), "float32"),
}
ODD: dict[str, tuple[Make, tuple[int, int]]] = {
    **{
        f"EXIF orientation {turn}": (
            write("bad.img", jpeg_with_exif(turn)),
            (60, 80) if turn < 5 or turn > 8 else (80, 60),
        )
        for turn in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    },
    **{
        f"{height} x {width}": (
            write("bad.img", encoded(".png", np.full((height, width, 3), 128, np.uint8))),
            (height, width),
        )
        for height, width in ((1, 1), (1, 4000), (4000, 1), (3, 5000), (2, 2))
    },
    "16-bit colour": (write("bad.img", encoded(".png", SMOOTH.astype(np.uint16) * 257)), (60, 80)),
    "16-bit grey": (write("bad.img", encoded(".tiff", SMOOTH[..., 0].astype(np.uint16) * 257)), (60, 80)),
    "grey": (write("bad.img", encoded(".png", SMOOTH[..., 0])), (60, 80)),
    "transparent": (write("bad.img", encoded(".png", np.dstack([SMOOTH, SMOOTH[..., 0]]))), (60, 80)),
    "all black": (write("bad.img", encoded(".png", np.zeros((60, 80, 3), np.uint8))), (60, 80)),
    "progressive": (write("bad.img", encoded(".jpg", SMOOTH, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), (60, 80)),
    "bytes behind its end": (write("bad.img", encoded(".jpg", SMOOTH) + b"trailing" * 99), (60, 80)),
    "CMYK": (_pillow("CMYK", "JPEG"), (60, 80)),
    "a palette": (_pillow("P", "PNG"), (60, 80)),
    "one bit per pixel": (_pillow("1", "PNG"), (60, 80)),
    "an animated PNG": (_pillow("RGB", "PNG", save_all=True), (60, 80)),
    "several TIFF pages": (_pillow("RGB", "TIFF", save_all=True), (60, 80)),
    "LZW compression": (_pillow("RGB", "TIFF", compression="tiff_lzw"), (60, 80)),
}


def _unlucky_name(folder: Path, kit: Kit) -> None:
    (folder / "so\nnow 'what' …%d.png").write_bytes(kit.picture.read_bytes())


def _two_of_one_name(folder: Path, kit: Kit) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "same.png").write_bytes(kit.picture.read_bytes())


PICTURES = [
    *(Case(f"picture: {name}", SEGMENT, says, write("bad.img", data)) for name, (data, says) in BAD.items()),
    *(Case(f"picture of {name}", SEGMENT, make=make, code=0, right=sized(*size)) for name, (make, size) in ODD.items()),
    *(
        Case(
            f"picture source: {name}",
            "live {onnx} --headless --frames 1 --source {case}/bad.png",
            says,
            write("bad.png", data),
        )
        for name, (data, says) in BAD.items()
        if "claiming" in name and "PNG" in name
    ),
    Case(
        "picture with a line break in its name",
        "segment {onnx} {case} -o {out}",
        make=_unlucky_name,
        code=0,
        right=well,
    ),
    Case("picture folder without pictures", "segment {onnx} {case} -o {out}", "holds no picture"),
]
