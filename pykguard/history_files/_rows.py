"""What a history file takes, and what comes out of it again."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from pykguard._errors import OptionValueError

# epoch, batch or None for a whole epoch, name, value, exact
Row = tuple[int, "int | None", str, float, bool]
Columns = dict[str, np.ndarray[Any, Any]]


class HistoryFile(Protocol):
    """A file that one run is appended to.

    Attributes:
        run: The number of this run in the file, from 0.
    """

    run: int

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them or none; they outlive the process once this returns."""

    def close(self) -> None:
        """Close the file; closing it again does nothing."""


class _Run:
    """The rows of one run, in 25 bytes a row."""

    def __init__(self) -> None:
        self.epoch = array("i")
        self.batch = array("i")
        self.name: list[str] = []
        self.value = array("d")
        self.exact = bytearray()

    def columns(self) -> Columns:
        name = np.empty(len(self.name), dtype=object)
        name[:] = self.name
        return {
            "epoch": np.array(self.epoch, dtype="int32"),
            "batch": np.array(self.batch, dtype="int32"),
            "name": name,
            "value": np.array(self.value, dtype="float64"),
            "exact": np.array(self.exact, dtype="bool"),
        }


def collect(rows: Iterable[tuple[int, Row]]) -> dict[int, Columns]:
    """Sort rows, each with its run's number, into the columns of each run."""
    runs: dict[int, _Run] = {}
    names: dict[str, str] = {}
    for number, (epoch, batch, name, value, exact) in rows:
        run = runs.get(number)
        if run is None:
            run = runs[number] = _Run()
        run.epoch.append(epoch)
        run.batch.append(-1 if batch is None else batch)
        run.name.append(names.setdefault(name, name))
        run.value.append(value)
        run.exact.append(exact)
    return {number: run.columns() for number, run in runs.items()}


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    r"""A name as a file can hold it: NUL and lone surrogates are spelt out, as `\x00`, `\ud800`."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def foreign(path: str) -> OptionValueError:
    """The error for a file that holds something else."""
    return OptionValueError("path", "a new file or one that LossHistory wrote", path)
