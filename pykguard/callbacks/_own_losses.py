"""The batches' own losses, as soon as they are asked for."""

from __future__ import annotations

from typing import Any

from pykguard._errors import MonitorError
from pykguard._framework import is_legacy, to_numpy
from pykguard.history._steps import Rows, Steps
from pykguard.history._tracker import install


class OwnLosses:
    """Reads the losses of the training steps of one `fit` from the model's loss tracker.

    Args:
        model: The model, whose tracker is replaced by one that remembers.
    """

    def __init__(self, model: Any) -> None:
        self._reader = install(model)
        self._steps = Steps(self._reader, self._take)
        steps = model._steps_per_execution if is_legacy(model) else model.steps_per_execution
        self.per_execution = int(to_numpy(steps))
        self._rows: list[Rows | None] = []
        self._any = False
        self.begin_epoch(None)

    def begin_epoch(self, n_batches: int | None) -> None:
        """Begin an epoch of so many batches, None where that is not known."""
        self._n_batches, self._n_taken = n_batches, 0
        self._resets = self._steps.n_resets

    def note(self) -> None:
        """Note that an execution has ended."""
        n = self.per_execution
        if n > 1:
            left = None if self._n_batches is None else self._n_batches - self._n_taken
            n = self._steps.count(n, left, self._steps.n_resets != self._resets)
        self._resets = self._steps.n_resets
        self._n_taken += n
        self._steps.noted += [None] * n
        self._steps.took(n)

    def take(self) -> list[float] | None:
        """The losses of what was noted since they were taken last, oldest first.

        None where they cannot be told from those of a `test_on_batch()` within the epoch.

        Raises:
            MonitorError: The `train_step` keeps them to itself.
        """
        self._steps.flush()
        known = [rows for rows in self._rows if rows is not None]
        are_known, self._rows = len(known) == len(self._rows), []
        if not known and not self._any:
            raise MonitorError(
                "SpikeGuard needs each batch's own loss, and this model's `train_step` keeps it to "
                "itself: it has to update the model's loss tracker, `model._loss_tracker`"
            )
        self._any = True
        return [float(loss) for rows in known for loss in rows[:, 0]] if are_known else None

    def is_mean_empty(self) -> bool:
        """Whether no batch is in Keras' running mean of this epoch."""
        return self._reader.is_empty()

    def close(self) -> None:
        """Let go of the tracker."""
        self._steps.close()

    def _take(self, rows: Rows | None, noted: list[Any]) -> None:
        self._rows.append(rows)
