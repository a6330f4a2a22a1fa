"""Where a record goes while it is made: a file, TensorBoard, both or neither."""

from __future__ import annotations

from collections.abc import Mapping

from pykguard.events import Event
from pykguard.history._columns import Batches
from pykguard.history._facts import Facts
from pykguard.history._rows import row_of_event, rows_of_batches, rows_of_epoch, rows_of_facts
from pykguard.history_files import TensorBoardWriter, open_file

_ON_BOARD = ("loss", "logged_loss", "learning_rate")


class Outlets:
    """Passes a record on, piece by piece.

    Args:
        path: Name of a file, or None.
        log_dir: A folder for TensorBoard, or None.
    """

    def __init__(self, path: str | None, log_dir: str | None) -> None:
        self._file = None if path is None else open_file(path)
        self._board = None if log_dir is None else TensorBoardWriter(log_dir)

    def __bool__(self) -> bool:
        return self._file is not None or self._board is not None

    def batches(self, batches: Batches, places: list[int], before: int) -> None:
        """Some batches of one epoch, before which there were so many."""
        if self._file is not None:
            self._file.append(rows_of_batches(batches, places))
        if self._board is not None:
            for _, batch, _, numbers in batches.rows(places):
                shown = [(n, v) for n, v in numbers if n == "loss" or (n in _ON_BOARD and v == v)]
                told = {f"batch_{name}": value for name, value in shown}
                self._board.scalars("train", before + batch, told)

    def epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """The metrics of an epoch."""
        if self._file is not None:
            self._file.append(rows_of_epoch(epoch, logs))
        if self._board is not None:
            own = {n: v for n, v in logs.items() if not n.startswith("val_")}
            self._board.scalars("train", epoch, {f"epoch_{n}": v for n, v in own.items()})
            validation = {n[4:]: v for n, v in logs.items() if n not in own}
            self._board.scalars(
                "validation", epoch, {f"epoch_{n}": v for n, v in validation.items()}
            )

    def facts(self, facts: Facts) -> None:
        """What else is known of an epoch."""
        if self._file is not None:
            self._file.append(rows_of_facts(facts))

    def event(self, event: Event) -> None:
        """What a guard did."""
        if self._file is not None:
            self._file.append([row_of_event(event)])
        if self._board is not None:
            self._board.text("guards", event.epoch, str(event))

    def close(self) -> None:
        """Close the file and TensorBoard's."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
