"""Sources of frames that are misspelt, contradict themselves, or hold no frame."""

from __future__ import annotations

import shlex

from hostile_case import Case, write

__all__ = ["SOURCES"]

LIVE = "live {onnx} --headless --frames 1 --reopen 0 --source"
ADDRESSES = [
    *("''", "' '", "test://64", "test://64x", "test://x48", "test://64x48x3", "test://axb", "test://-64x48"),
    *("test://1x1", "test://100000x100000", "test://99999999999999999999x48", "test://64x48?fps=-1"),
    *("test://64x48?fps=nan", "test://64x48?fps=inf", "test://64x48?fps=fast", "test://64x48?fps=1e400"),
    *("test://64x48?frames=0", "test://64x48?frames=-5", "test://64x48?frames=1.5", "test://64x48?frames="),
    *("test://64x48?shapes=-1", "test://64x48?shapes=1000000000", "test://64x48?speed=3", "test://64x48?fps=1&fps=2"),
    *("test://64x48/path", "test://64x48?fps", "test://6_4x48"),
    *("csi://", "csi://a", "csi://-1", "csi://0?width=0", "csi://0?width=1e9&height=2", "csi://0?flip=9"),
    *("csi://0?fps=0", "csi://0/x", "csi://0?gain=3", "csi://0!videotestsrc", "csi://99999999999999999999"),
    *("rtsp://", "rtsp:///stream", "rtsp://host:99999/x", "rtsp://host:port/x", "rtsps://", "rtsp://[::1"),
    *("http://", "http:///video", "http://host:99999/", "http://host:-1/", "http://a b/", "http://[::1/video"),
    *("https://", "http://127.0.0.1:1/video", "http://user:secret@127.0.0.1:1/", "rtsp://user:secret@127.0.0.1:1/s"),
    *("ftp://host/a.mp4", "file:///etc/hostname", "udp://127.0.0.1:1", "data://x", "javascript://x", "gopher://x"),
    *("test://٦٤x٤٨", "test://٦٤x48?frames=1", "test://64x48?frames=1_0", "test://64x48?frames=٣"),
    *("test://64x48?fps=3_0", "'test://64x48?frames= 3'", "csi://٠", "csi://0?width=6_40", "٩٩"),  # noqa: RUF001
    *("concat:a|b", "pipe:0", "/dev/video999", "/dev/null", "/dev/zero", "99999", "-1", "1e3", "none.mp4"),
    *("'none/**/*.png'", "'[!'", "'*.png'", "'../../../*/*.none'", "'a\0b'", "'a\nb'", f"{'x' * 5000}.mp4"),
]
VIDEOS = {
    "an empty MP4": b"",
    "a text": b"no video at all\n" * 99,
    "zeros": bytes(1 << 16),
    "an MP4 of a head only": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "an MP4 whose atom claims 2^32 bytes": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\xff\xff\xff\xffmoov" + bytes(64),
    "an MP4 whose atom claims 2^63 bytes": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\1moov\x7f" + b"\xff" * 7,
    "an MP4 nested 1,000 deep": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
    + b"".join((8 * (1000 - i)).to_bytes(4, "big") + b"moov" for i in range(1000)),
    "a Matroska of a head only": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01" + bytes(64),
    "a playlist of other files": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "a script for concatenation": b"ffconcat version 1.0\nfile /etc/hostname\n",
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
    "an artefact": b"\x08\x08\x12\x07pytorch:\x00",
    "an AVI of a head only": b"RIFF\x00\x01\x00\x00AVI LIST\x20\x00\x00\x00hdrl" + bytes(64),
    "an AVI of eight bytes": b"RIFF\xff\xff\xff\xffAVI ",
    "a GIF of a head only": b"GIF89a\x01\0\x01\0\0\0\0;",
    "Motion JPEG without pictures": b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" * 9,
}
WORDS = {
    "a width for pictures": "{picture} --width 640",
    "a width below 1": "0 --width 0",
    "frames per second of NaN": "0 --fps nan",
    "a mode nobody knows": "{picture} --mode sometimes",
    "a search of -1 seconds": "{picture} --reopen -1",
    "a search of NaN seconds": "{picture} --reopen nan",
    "a width twice": "'csi://0?width=640' --width 640",
}

SOURCES = [
    *(
        Case(f"source {number}: {shlex.split(address)[0][:40]!r}", f"{LIVE} {address}", ".")
        for number, address in enumerate(ADDRESSES)
        if not address.startswith("-")
    ),
    *(
        Case(f"source video of {name}", f"{LIVE} {{case}}/bad.mp4", ".", write("bad.mp4", data))
        for name, data in VIDEOS.items()
    ),
    *(
        Case(f"source with {name}", f"live {{onnx}} --headless --frames 1 --source {words}", ".")
        for name, words in WORDS.items()
    ),
]
