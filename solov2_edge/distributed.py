"""The processes of one training run: one per device, started by ``torchrun``, or this one alone.

What a failure looks like: the process that meets it says its sentence; the others, whose next exchange breaks or whom
``torchrun`` ends, say nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from solov2_edge.errors import InputError, SolovEdgeError, require

__all__ = ["World", "end_silently", "joined", "place", "yielding"]

# Process 0 evaluates while the others wait for it; a process that died is noticed at once all the same.
PATIENCE = timedelta(hours=12)
# torchrun ends all processes as soon as one has failed. So a process gives the one that speaks for it time to do so:
LINGER = 60.0  # seconds, before it ends in silence
COURTESY = 4.0  # seconds, before it says what process 0 has probably met too
_BROKEN = re.compile(r"gloo|nccl|connection|socket|peer|store", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of its run.

    Attributes:
        rank: 0 .. size - 1; process 0 writes files and evaluates.
        size: how many there are.
        local_rank: number of its device on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes."""
        if self.size == 1:
            return values
        out = values.clone()
        dist.all_reduce(out)
        return out

    def first_that(self, condition: bool) -> int | None:
        """Return the lowest rank whose ``condition`` holds, None if it holds nowhere."""
        if self.size == 1:
            return 0 if condition else None
        found = torch.tensor(self.rank if condition else self.size, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return None if int(found) == self.size else int(found)

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.size > 1:
            dist.barrier()


def place() -> World:
    """Return what the environment says: ``torchrun``'s RANK, WORLD_SIZE and LOCAL_RANK, or a process alone.

    Raises:
        InputError: the environment is half set, or names a device that is not there.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return World()
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers ({error}); start with torchrun") from error
    require(0 <= rank < size, f"RANK must be below WORLD_SIZE, got {rank} and {size}; start with torchrun")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        require(local < count, f"a process per GPU: process {local} has none, there are {count}; start fewer")
    return World(rank, size, local)


@contextmanager
def joined(world: World) -> Iterator[None]:
    """Connect the processes while the context lasts; NCCL between GPUs, gloo between CPUs.

    Raises:
        SystemExit: the exchange broke because another process ended; that one has said why.
    """
    if world.size == 1:
        yield
        return
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not _BROKEN.search(str(error)):
            raise
        end_silently(1)
    dist.destroy_process_group()


@contextmanager
def yielding(world: World) -> Iterator[None]:
    """Let an error that all processes meet be told once, by process 0."""
    try:
        yield
    except (SolovEdgeError, OSError):
        if not world.leads:
            time.sleep(COURTESY)
        raise


def end_silently(exit_code: int) -> NoReturn:
    """End this process of several, whose failure another one is telling."""
    time.sleep(LINGER)
    raise SystemExit(exit_code)
