"""Looking at a machine: everything that decides whether and how well an artefact runs here, each with its cure.

System files are read below a root, so that recorded machines can be looked at as well; packages are those of the
Python that runs this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from solov2_edge.errors import require
from solov2_edge.runtime.doctor_cameras import camera_findings
from solov2_edge.runtime.doctor_jetson import jetson_findings
from solov2_edge.runtime.doctor_machine import machine_findings
from solov2_edge.runtime.finding import Finding

__all__ = ["examine"]

SYSTEM = Path("/")


def examine(root: Path = SYSTEM) -> Iterator[Finding]:
    """Yield what was found, topic by topic.

    Args:
        root: the folder that stands for ``/``. Of another one, engines and OpenCV are left out: they are this
            machine's.

    Raises:
        InputError: it is no folder, or holds nothing of a machine.
    """
    require(root.is_dir(), f"{root} is not a folder; expected the root of a system, or files recorded from one")
    known = root == SYSTEM or any((root / part).is_dir() for part in ("proc", "sys", "etc"))
    require(known, f"{root} holds neither proc, sys nor etc; expected files recorded from a system, laid out as in /")
    yield from machine_findings(root)
    yield from jetson_findings(root)
    if root == SYSTEM:
        # Imported here: engines take seconds, and recorded machines have none.
        from solov2_edge.runtime.doctor_engines import engine_findings
        from solov2_edge.runtime.doctor_opencv import opencv_findings

        yield from engine_findings(root)
        yield from opencv_findings(root)
    yield from camera_findings(root)
