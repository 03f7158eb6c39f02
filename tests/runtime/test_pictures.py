from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.errors import InputError
from solov2_edge.runtime.picture_headers import is_whole, picture_format, picture_size
from solov2_edge.runtime.pictures import MAX_PIXELS, as_frame, list_pictures, read_picture

SUFFIXES = [".jpg", ".png", ".webp", ".tiff", ".bmp"]
LOSSLESS = [".png", ".webp", ".tiff", ".bmp"]
COLOUR = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 2)
GREY = cv2.cvtColor(COLOUR, cv2.COLOR_BGR2GRAY)
ROTATE_RIGHT = 6  # EXIF: the viewer turns the stored picture a quarter to the right


def encoded(suffix: str, array: np.ndarray, *options: int) -> bytes:
    good, data = cv2.imencode(suffix, array, list(options))
    assert good
    return data.tobytes()


def written(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def exif(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, orientation, 0)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_the_pixels(tmp_path: Path, suffix: str) -> None:
    options = (cv2.IMWRITE_WEBP_QUALITY, 101) if suffix == ".webp" else ()  # above 100: lossless
    np.testing.assert_array_equal(read_picture(written(tmp_path, encoded(suffix, COLOUR, *options))), COLOUR)


def test_jpeg_and_lossy_webp_come_close(tmp_path: Path) -> None:
    for suffix, option in ((".jpg", cv2.IMWRITE_JPEG_QUALITY), (".webp", cv2.IMWRITE_WEBP_QUALITY)):
        picture = read_picture(written(tmp_path, encoded(suffix, COLOUR, option, 98)))
        assert picture.shape == COLOUR.shape
        assert np.abs(picture.astype(int) - COLOUR).mean() < 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_grey_is_repeated(tmp_path: Path, suffix: str) -> None:
    picture = read_picture(written(tmp_path, encoded(suffix, GREY)))
    assert picture.shape == COLOUR.shape
    assert (picture == picture[..., :1]).all()
    assert abs(picture.mean() - GREY.mean()) < 1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_alpha_is_dropped(tmp_path: Path, suffix: str) -> None:
    alpha = np.zeros((60, 80, 1), np.uint8)
    np.testing.assert_array_equal(read_picture(written(tmp_path, encoded(suffix, np.dstack([COLOUR, alpha])))), COLOUR)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    for array, expected in ((COLOUR, COLOUR), (GREY, np.dstack([GREY] * 3))):
        path = written(tmp_path, encoded(suffix, array.astype(np.uint16) * 257))
        np.testing.assert_array_equal(read_picture(path), expected)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    turned = np.rot90(COLOUR, -1)
    png = encoded(".png", COLOUR)
    png = png[:33] + png_chunk(b"eXIf", exif(ROTATE_RIGHT)) + png[33:]
    np.testing.assert_array_equal(read_picture(written(tmp_path, png)), turned)
    jpeg = encoded(".jpg", COLOUR, cv2.IMWRITE_JPEG_QUALITY, 98)
    body = b"Exif\0\0" + exif(ROTATE_RIGHT)
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    picture = read_picture(written(tmp_path, jpeg))
    assert picture.shape == turned.shape
    assert np.abs(picture.astype(int) - turned).mean() < 3


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (3, 8000)])
def test_extreme_shapes(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    assert read_picture(written(tmp_path, encoded(suffix, np.full((*shape, 3), 90, np.uint8)))).shape == (*shape, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_headers_tell_format_and_size(suffix: str) -> None:
    data = encoded(suffix, COLOUR)
    kind = {".jpg": "JPEG", ".png": "PNG", ".webp": "WebP", ".tiff": "TIFF", ".bmp": "BMP"}[suffix]
    assert picture_format(data[:16]) == kind
    assert picture_size(data, kind) == (60, 80)
    assert is_whole(data, kind)


def test_both_webp_codings_and_the_extended_container_tell_their_size() -> None:
    for array in (COLOUR, np.dstack([COLOUR, GREY])):
        for quality in (80, 101):
            assert picture_size(encoded(".webp", array, cv2.IMWRITE_WEBP_QUALITY, quality), "WebP") == (60, 80)
    extended = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (79).to_bytes(3, "little") + (59).to_bytes(3, "little")
    assert picture_size(extended, "WebP") == (60, 80)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_truncation_is_refused_in_one_quiet_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, array: np.ndarray
) -> None:
    data = encoded(suffix, array)
    for length in {*range(1, 64, 3), *range(64, len(data), 397), *range(len(data) - 9, len(data))}:
        path = written(tmp_path, data[:length])
        with pytest.raises(InputError) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_whose_thumbnail_is_whole_but_itself_is_not(tmp_path: Path) -> None:
    thumbnail = encoded(".jpg", COLOUR[:8, :8])
    jpeg = encoded(".jpg", COLOUR)
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]
    assert read_picture(written(tmp_path, jpeg)).shape == COLOUR.shape
    with pytest.raises(InputError, match="cut short"):
        read_picture(written(tmp_path, jpeg[:-200]))


def test_progressive_and_restarting_jpegs_and_trailing_bytes_are_whole(tmp_path: Path) -> None:
    for options in ((cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)):
        data = encoded(".jpg", COLOUR, *options)
        assert read_picture(written(tmp_path, data)).shape == COLOUR.shape
        assert read_picture(written(tmp_path, data + b"camera maker's own trailer")).shape == COLOUR.shape
        assert not is_whole(data[:-2], "JPEG")


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(".png", COLOUR))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InputError, match="PNG picture that is cut short or damaged"):
        read_picture(written(tmp_path, bytes(data)))


def test_big_endian_tiff_and_its_size() -> None:
    entries = [(256, 3, 1, 80 << 16), (257, 3, 1, 60 << 16), (273, 4, 1, 200), (279, 4, 1, 4800)]
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(struct.pack(">HHII", *e) for e in entries)
    data = data + bytes(4)
    assert picture_size(data, "TIFF") == (60, 80)
    assert not is_whole(data, "TIFF")
    assert is_whole(data + bytes(5000 - len(data)), "TIFF")
    assert not is_whole(data + bytes(4999 - len(data)), "TIFF")


def test_big_tiff_and_its_size() -> None:
    entries = [(256, 4, 1, 80), (257, 16, 1, 60), (273, 16, 1, 200), (279, 4, 1, 4800)]
    data = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(entries))
    data += b"".join(struct.pack("<HHQQ", *e) for e in entries) + bytes(8)
    assert picture_size(data, "TIFF") == (60, 80)
    assert is_whole(data + bytes(5000 - len(data)), "TIFF")
    assert not is_whole(data + bytes(4999 - len(data)), "TIFF")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am text and no picture", "is not a JPEG, PNG, WebP, TIFF or BMP picture"),
        (b"GIF89a" + bytes(40), "is not a JPEG"),
        (b"\xff\xd8\xff\xe0", "header is cut short"),
        (png_claiming(10_001, 10_000), "declares 10001 x 10000 pixels"),
        (png_claiming(1, (1 << 20) + 1), "declares 1 x 1048577 pixels"),
        (png_claiming(0, 5), "declares 0 x 5 pixels"),
        (encoded(".tiff", COLOUR.astype(np.float32)), "float32 pixels"),
    ],
)
def test_what_is_no_usable_picture(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], data: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_picture(written(tmp_path, data))
    assert capfd.readouterr().err == ""


def test_a_huge_claim_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    bmp = bytearray(encoded(".bmp", COLOUR))
    struct.pack_into("<ii", bmp, 18, 80_000, -60_000)
    for data in (png_claiming(60_000, 80_000), bytes(bmp)):
        with pytest.raises(InputError, match=f"60000 x 80000 pixels, expected .* at most {MAX_PIXELS:,}"):
            read_picture(written(tmp_path, data))


def test_a_whole_file_without_its_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OpenCV cannot decode"):
        read_picture(written(tmp_path, png_claiming(5, 5)))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path, message in (
        (tmp_path / "missing.png", "does not exist"),
        (tmp_path, "is not a file"),
        (fifo, "is not a file"),
        ("a\0b", "is not a path"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_picture(path)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(SUFFIXES), st.data())
def test_damage_gives_a_picture_or_one_sentence(suffix: str, data: st.DataObject) -> None:
    picture = bytearray(encoded(suffix, COLOUR[:9, :9]))
    for _ in range(data.draw(st.integers(1, 4))):
        picture[data.draw(st.integers(0, min(len(picture), 700) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        try:
            frame = read_picture(written(Path(folder), bytes(picture)))
        except InputError:
            return
    assert frame.dtype == np.uint8
    assert frame.ndim == 3


def test_the_log_level_of_opencv_is_restored_after_parallel_reads(tmp_path: Path) -> None:
    level = cv2.utils.logging.getLogLevel if hasattr(cv2.utils, "logging") else vars(cv2)["getLogLevel"]
    before = level()
    good = written(tmp_path, encoded(".png", COLOUR), "good.png")
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_picture, [good] * 40))) == 40
    assert level() == before


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (GREY, np.dstack([GREY] * 3)),
        (GREY[..., None], np.dstack([GREY] * 3)),
        (np.dstack([COLOUR, GREY]), COLOUR),
        (COLOUR.astype(np.uint16) * 257, COLOUR),
        (np.dstack([COLOUR, GREY]).astype(np.uint16) * 257, COLOUR),
        (
            np.array([[0, 128, 129, 65406, 65407, 65535]], np.uint16),
            np.array([[[v] * 3 for v in (0, 0, 1, 254, 255, 255)]]),
        ),
    ],
    ids=["grey", "grey with an axis", "BGRA", "16 bits", "16-bit BGRA", "rounding"],
)
def test_as_frame(frame: np.ndarray, expected: np.ndarray) -> None:
    result = as_frame(frame)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_a_bgr_frame_is_not_copied() -> None:
    assert as_frame(COLOUR) is COLOUR


@pytest.mark.parametrize(
    "frame",
    [
        COLOUR.astype(np.float32),
        COLOUR.astype(np.int16),
        COLOUR > 100,
        COLOUR[None],
        COLOUR[..., :2],
        COLOUR[0, 0],
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
        None,
        [[1, 2], [3, 4]],
    ],
    ids=lambda frame: f"{getattr(frame, 'dtype', type(frame))}{getattr(frame, 'shape', '')}",
)
def test_what_is_no_frame(frame: object) -> None:
    with pytest.raises(InputError, match="a frame must"):
        as_frame(frame)  # type: ignore[arg-type]  # wrong on purpose


def test_a_folder_lists_its_pictures_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.webp", "._a.jpg", "notes.txt", "d.tif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [p.name for p in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "c.webp", "d.tif"]
    assert list_pictures(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        list_pictures(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        list_pictures(tmp_path / "missing")
