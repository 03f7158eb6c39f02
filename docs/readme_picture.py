"""Draw the README's picture: what the bundled model finds in the bundled pictures, side by side.

Run with ``python docs/readme_picture.py``; writes ``docs/images/nuclei.jpg``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solov2_edge.bundled import bundle
from solov2_edge.demos.draw import draw_instances
from solov2_edge.demos.image import SHOWN_SCORE, encode_jpeg
from solov2_edge.runtime import load, read_picture
from solov2_edge.runtime.pictures import list_pictures

SCALE = 2  # the bundled pictures are 256 pixels high
GAP = 12  # pixels of white between pictures
QUALITY = 88  # of 100


def main() -> None:
    """Segment, draw, join, write."""
    files = bundle()
    tiles = []
    with load(files.artefact) as segment:
        for path in list_pictures(files.pictures):
            frame = read_picture(path)
            found = segment(frame)
            found = found[found.scores >= SHOWN_SCORE]
            tiles.append(draw_instances(frame, found, scale=SCALE, labels=False))
            tiles.append(np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8))
    target = Path(__file__).parent / "images" / "nuclei.jpg"
    target.write_bytes(encode_jpeg(np.hstack(tiles[:-1]), QUALITY))


if __name__ == "__main__":
    main()
