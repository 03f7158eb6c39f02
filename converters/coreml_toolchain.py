"""coremltools, imported and called so that its remarks do not reach the user."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import tqdm

__all__ = ["coremltools_version", "load_coremltools", "quiet"]

# Of no concern to a user: newer torch and scikit-learn than coremltools was tested with (every export is compared with
# PyTorch), no Apple runtime on Linux, optional libraries of torchao, and a note of torch about torchao.
TALKATIVE = ("coremltools", "torchao", "torch.utils._pytree")
_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the logging, the progress bars and the known warnings of coremltools and torch.export to themselves."""
    with _LOCK:
        loggers = [logging.getLogger(name) for name in TALKATIVE]
        levels = [logger.level for logger in loggers]
        show_bars: Any = tqdm.tqdm.__init__
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        # coremltools has no switch for its bars; it makes them with tqdm's defaults.
        tqdm.tqdm.__init__ = functools.partialmethod(show_bars, disable=True)
        try:
            with warnings.catch_warnings():
                # torch's own exporter uses a name its pytree module has deprecated.
                warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
                # coremltools' torch.export frontend asks its own deprecated registry.
                warnings.filterwarnings("ignore", message=".*_TORCH_OPS_REGISTRY", category=DeprecationWarning)
                # coremltools lets go of its temporary folders without closing them.
                warnings.filterwarnings("ignore", message="Implicitly cleaning up", category=ResourceWarning)
                # Weights with fewer different values than a palette has entries.
                warnings.filterwarnings("ignore", message="Number of distinct clusters")
                yield
        finally:
            tqdm.tqdm.__init__ = show_bars
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def load_coremltools() -> Any:
    """Import coremltools and return it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    with quiet():
        return importlib.import_module("coremltools")


def coremltools_version() -> str:
    """Return the version of coremltools that converts here."""
    return str(load_coremltools().__version__)
