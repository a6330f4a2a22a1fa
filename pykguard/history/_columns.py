"""The columns of a record: a number a row, and no more memory than the numbers take."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

ALWAYS = ("loss", "logged_loss", "learning_rate")
Known = tuple[str, float]  # a column's name and its number in a row


class Batches:
    """One row a batch. What a row's step computed is filled in when it has been read.

    A row takes 33 bytes and 4 for each further metric, with `wide` 45 and 8.

    Args:
        wide: Whether the numbers are of 64 bits, in place of Keras' usual 32.

    Attributes:
        per_epoch: The number of batches in the longest epoch so far.
        on_bar: Whether the progress bar shows `logged_loss` as it is.
    """

    def __init__(self, wide: bool = False) -> None:
        self._kind: Literal["d", "f"] = "d" if wide else "f"
        self._epoch = array("i")
        self._batch = array("i")
        self._size = array("i")
        self._seconds = array("d")
        self._exact = bytearray()
        self._numbers: dict[str, array[float]] = {name: array(self._kind) for name in ALWAYS}
        self.per_epoch = 0
        self.on_bar = False

    def __len__(self) -> int:
        return len(self._epoch)

    def add(
        self,
        epoch: int,
        numbers: Sequence[int],
        seconds: Sequence[float],
        columns: Mapping[str, Sequence[float]],
    ) -> range:
        """Append rows whose loss and size are not known yet; returns their places.

        Args:
            epoch: The epoch of all of them.
            numbers: Their batches' numbers in it.
            seconds: When each ended.
            columns: Whatever else is known, by the names of the columns.
        """
        before, n = len(self), len(numbers)
        self._epoch.extend([epoch] * n)
        self._batch.extend(numbers)
        self._size.extend([0] * n)
        self._seconds.extend(seconds)
        self._exact.extend(bytes(n))
        for name, values in columns.items():
            column = self._numbers.setdefault(name, array(self._kind))
            column.extend([math.nan] * (before - len(column)))
            column.extend(values)
        for name in ALWAYS:
            column = self._numbers[name]
            column.extend([math.nan] * (before + n - len(column)))
        return range(before, before + n)

    def fill(self, places: Sequence[int], rows: np.ndarray[Any, Any]) -> None:
        """Fill in loss, size and, where it is a number, learning rate, as the steps computed them.

        Args:
            places: The rows' places; -1 where a row is not recorded.
            rows: Shape (rows, 3).
        """
        first, n = places[0], len(places)
        if first >= 0 and places[-1] == first + n - 1:
            self._fill_slice(slice(first, first + n), rows)
            return
        for place, row in zip(places, rows, strict=True):
            if place >= 0:
                self._fill_slice(slice(place, place + 1), row[np.newaxis])

    def _fill_slice(self, where: slice, rows: np.ndarray[Any, Any]) -> None:
        kind = self._numbers["loss"].typecode
        loss, size, rate = (np.ascontiguousarray(column) for column in rows.T)
        self._numbers["loss"][where] = array(kind, loss.astype(kind).tobytes())
        self._size[where] = array("i", size.astype("int32").tobytes())
        self._exact[where] = b"\1" * len(rows)
        if not np.isnan(rate[0]):
            self._numbers["learning_rate"][where] = array(kind, rate.astype(kind).tobytes())

    def guess(self, place: int, loss: float, size: float, bound: float) -> None:
        """Fill in a loss that is only known to within `bound`."""
        self._numbers["loss"][place] = loss
        self._size[place] = int(size)
        bounds = self._numbers.setdefault("error_bound", array(self._kind))
        bounds.extend([0.0] * (len(self) - len(bounds)))
        bounds[place] = bound

    @classmethod
    def from_rows(
        cls,
        epochs: np.ndarray[Any, Any],
        batches: np.ndarray[Any, Any],
        names: np.ndarray[Any, Any],
        values: np.ndarray[Any, Any],
        exact: np.ndarray[Any, Any],
    ) -> Batches:
        """Columns from rows of one value each, those of a batch beginning with its loss."""
        table = cls(wide=True)
        first = np.flatnonzero(names == "loss")
        place = np.cumsum(names == "loss") - 1
        table._epoch = array("i", epochs[first].tolist())
        table._batch = array("i", batches[first].tolist())
        table._exact = bytearray(exact[first].astype("uint8").tobytes())
        table._size = array("i", bytes(4 * len(first)))
        table._seconds = array("d", [math.nan] * len(first))
        for name in dict.fromkeys(names):
            chosen = names == name
            filled = np.full(len(first), 0.0 if name in ("size", "error_bound") else math.nan)
            filled[place[chosen]] = values[chosen]
            if name == "size":
                table._size = array("i", filled.astype("int32").tolist())
            elif name == "seconds":
                table._seconds = array("d", filled.tolist())
            else:
                table._numbers[name] = array("d", filled.tolist())
        table.per_epoch = max(table._batch, default=-1) + 1
        return table

    def number(self, name: str, place: int) -> float:
        """One number."""
        return self._numbers[name][place]

    def rows(self, places: Sequence[int]) -> Iterator[tuple[int, int, bool, list[Known]]]:
        """Epoch, batch, whether the loss is exact, and what is known, of rows without a gap."""
        if not places:
            return
        here = slice(places[0], places[-1] + 1)
        columns: list[tuple[str, Sequence[float]]]
        columns = [(name, column[here].tolist()) for name, column in self._numbers.items()]
        columns += [("seconds", self._seconds[here].tolist()), ("size", self._size[here].tolist())]
        where = zip(self._epoch[here], self._batch[here], self._exact[here], strict=True)
        for i, (epoch, batch, exact) in enumerate(where):
            known = [
                (name, column[i])
                for name, column in columns
                if i < len(column) and (column[i] == column[i] or name in ALWAYS)
            ]
            yield epoch, batch, bool(exact), known

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """The numbers of one column, float64."""
        return np.array(self._numbers[name], dtype="float64")

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The rows as NumPy columns."""
        n = len(self)
        numbers = {
            name: _padded(column, n, 0.0 if name == "error_bound" else math.nan)
            for name, column in self._numbers.items()
        }
        logged = numbers.pop("logged_loss")
        console = logged.copy() if self.on_bar else np.full(n, math.nan)
        first = {
            "epoch": np.array(self._epoch, dtype="int32"),
            "batch": np.array(self._batch, dtype="int32"),
            "loss": numbers.pop("loss"),
            "logged_loss": logged,
            "console_loss": numbers.pop("console_loss", console),
            "learning_rate": numbers.pop("learning_rate"),
            "seconds": np.array(self._seconds, dtype="float64"),
            "size": np.array(self._size, dtype="int32"),
            "exact": np.array(self._exact, dtype="bool"),
            "error_bound": numbers.pop("error_bound", np.zeros(n)),
        }
        return {**first, **numbers}


class Epochs:
    """One row an epoch: each metric as Keras logged it."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, dict[str, float]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Append a row."""
        self._rows.append((epoch, dict(logs)))

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The rows as NumPy columns, NaN where a metric is missing."""
        names = list(dict.fromkeys(name for _, logs in self._rows for name in logs))
        columns: dict[str, np.ndarray[Any, Any]] = {
            "epoch": np.array([epoch for epoch, _ in self._rows], dtype="int32")
        }
        for name in names:
            values = [logs.get(name, math.nan) for _, logs in self._rows]
            columns[name] = np.array(values, dtype="float64")
        return columns


def _padded(column: array[float], n: int, filler: float) -> np.ndarray[Any, Any]:
    values = np.full(n, filler)
    values[: len(column)] = column
    return values
