"""The columns of a loss history, in memory and as a CSV file."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from pykguard._errors import OptionTypeError, OptionValueError

HEADER = "run,epoch,batch,name,value,exact\n"
N_COLUMNS = HEADER.count(",") + 1


class Batches:
    """One row a batch, in typed arrays of 25 bytes a row."""

    def __init__(self) -> None:
        self._epoch = array("i")
        self._batch = array("i")
        self._loss = array("d")
        self._logged = array("d")
        self._exact = bytearray()

    def __len__(self) -> int:
        return len(self._loss)

    def add(self, epoch: int, batch: int, loss: float, logged: float, exact: bool) -> None:
        """Append a row."""
        self._epoch.append(epoch)
        self._batch.append(batch)
        self._loss.append(loss)
        self._logged.append(logged)
        self._exact.append(exact)

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The rows as NumPy columns."""
        return {
            "epoch": np.array(self._epoch, dtype="int32"),
            "batch": np.array(self._batch, dtype="int32"),
            "loss": np.array(self._loss, dtype="float64"),
            "logged_loss": np.array(self._logged, dtype="float64"),
            "exact": np.array(self._exact, dtype="bool"),
        }


class CsvFile:
    """Appends a run to a CSV file with the columns of `HEADER`, a row a value.

    `batch` is empty for the values of a whole epoch. A row is written whole or not at all; a torn
    last row, left by a killed process, is cut off when the file is opened.
    """

    def __init__(self, path: str) -> None:
        self.run = _next_run(path)
        self._file: IO[str] = open(  # noqa: SIM115 (closed when training ends)
            path, "a", buffering=1, encoding="utf-8", newline=""
        )
        if self._file.tell() == 0:
            self._file.write(HEADER)

    def write(
        self, epoch: int, batch: int | None, name: str, value: float, exact: bool = True
    ) -> None:
        """Append one value."""
        where = "" if batch is None else batch
        quoted = '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name
        row = f"{self.run},{epoch},{where},{quoted},{_number(value)},{int(exact)}\n"
        self._file.write(row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_path(path: Any) -> str | None:
    """Check the option `path`: None, or the name of a CSV file in a folder that exists."""
    if path is None:
        return None
    requirement = "None or the name of a .csv file in a folder that exists"
    if not isinstance(path, (str, os.PathLike)):
        raise OptionTypeError("path", requirement, path)
    name = os.path.expanduser(os.fspath(path))
    folder = os.path.dirname(name) or "."
    if not name.lower().endswith(".csv") or not os.path.isdir(folder) or os.path.isdir(name):
        raise OptionValueError("path", requirement, name)
    return name


def _next_run(path: str) -> int:
    """The number of the run to come, 0 for a new file; cuts off a torn last row."""
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return 0
    foreign = OptionValueError("path", "a new file or one that LossHistory wrote", path)
    torn = b""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        if file.readline() != HEADER:
            raise foreign

        def whole_lines() -> Iterator[str]:
            nonlocal torn
            for line in file:
                if line.endswith("\n"):
                    yield line
                else:
                    torn = line.encode(errors="surrogateescape")

        run = -1
        try:
            for row in csv.reader(whole_lines()):
                if len(row) != N_COLUMNS:
                    raise ValueError(row)
                run = int(row[0])
        except (ValueError, csv.Error):
            raise foreign from None
    os.truncate(path, os.path.getsize(path) - len(torn))
    return run + 1


def _number(value: float) -> str:
    """A number as both Python and R read it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return repr(float(value))
