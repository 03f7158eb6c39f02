"""What a file looks like, from its first bytes and never from its name. Standard library only.

Core ML packages and ncnn artefacts are folders.
"""

from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.errors import InputError

__all__ = ["FileKind", "file_kind"]

_HEAD = 4096  # bytes; enough for every signature below
_SAFETENSORS_HEADER = 100_000_000  # bytes; the format's own bound on its JSON header

# Signatures at an offset: (offset, bytes, what it is).
_SIGNATURES = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights?)"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (0, b"Rar!", "a RAR archive; unpack it first"),
    (0, b"\x93NUMPY", "one numpy array"),
    (257, b"ustar", "a tar archive; unpack it, or re-save a pre-0.2 PyTorch file with torch.save"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it points to; fetch it with git lfs pull"),
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        kind: ``"torch-zip"``, ``"pickle"`` (legacy torch files included), ``"safetensors"``, ``"onnx"``,
            ``"tflite"``, ``"coreml"``, ``"ncnn"`` (folders) or ``"other"``.
        text: the same in words, with an article, for messages.
    """

    kind: str
    text: str


def file_kind(path: str | os.PathLike[str]) -> FileKind:
    """Look at a file's first bytes, or at what a folder holds.

    Raises:
        InputError: no such file, a directory other than a Core ML package or an ncnn artefact, empty, or unreadable.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return _of_folder(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a device or a pipe; give a file on disk")  # opening a pipe could wait forever
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except FileNotFoundError:
        raise InputError(
            f"no file at {path}; check the path, or fetch a published one with: solov2-edge download NAME"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise InputError(f"{path} is empty (0 bytes); download or copy it again")
    return _of_head(path, head, status.st_size)


def _of_head(path: Path, head: bytes, size: int) -> FileKind:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_zip(path)
    for offset, signature, text in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return FileKind("other", text)
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= header <= _SAFETENSORS_HEADER:
        # The header's length may exceed the file: a truncated one is still recognised for what it is.
        return FileKind("safetensors", "a safetensors file" if header <= size else "a truncated safetensors file")
    if head[4:8] == b"TFL3":
        return FileKind("tflite", "a TFLite model")
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return FileKind("pickle", "a pickle")
    if _is_onnx(head):
        return FileKind("onnx", "an ONNX model")
    return FileKind("other", _text_kind(head))


def _of_folder(path: Path) -> FileKind:
    """Recognise a package as coremltools writes it, a list of its parts beside the model, and ncnn's two networks."""
    if (path / "Manifest.json").is_file() and (path / "Data" / "com.apple.CoreML").is_dir():
        return FileKind("coreml", "a Core ML package")
    if (path / "trunk.param").is_file() and (path / "head.param").is_file():
        return FileKind("ncnn", "an ncnn artefact")
    raise InputError(f"{path} is a directory; give the file inside it, or a whole Core ML package or ncnn artefact")


def _of_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return FileKind("other", "a truncated or damaged zip archive (a PyTorch file that was not copied to its end?)")
    tails = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in tails:
        return FileKind("other", "a TorchScript archive; give the training checkpoint it was traced from")
    if "data.pkl" in tails:
        return FileKind("torch-zip", "a PyTorch file")
    if names and all(name.endswith(".npy") for name in names):
        return FileKind("other", "a numpy .npz archive")
    return FileKind("other", "a zip archive without a PyTorch checkpoint in it")


def _is_onnx(head: bytes) -> bool:
    """An ONNX ModelProto: field 1 (ir_version, small), then producer, graph, opset or metadata fields."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x20 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42, 0x72)


def _text_kind(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page (a download that met a web page instead of the file)"
    if start.startswith((b"<?xml", b"<")):
        return "an XML file"
    printable = sum(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
    if printable >= 0.97 * len(head):
        return "a JSON text" if start[:1] == b"{" else "a text file"
    return "an unknown kind of binary file"
