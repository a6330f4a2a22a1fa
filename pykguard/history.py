"""Recording what the loss really was."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pykguard import _checks
from pykguard._callback import Callback
from pykguard._framework import require_one_replica
from pykguard._loss_tracker import Recorded, install
from pykguard._recorder import Batches, CsvFile, check_path
from pykguard._warnings import warn


class LossHistory(Callback):
    """Records each batch's own loss, what was logged for it, and each epoch's metrics.

    What Keras logs after batch `b` of an epoch is the mean since the epoch began, weighted by the
    batch sizes `n`,

        logged_b = sum(n_i * loss_i for i <= b) / sum(n_i for i <= b)

    which hides a late spike. Here `loss_b` itself is recorded, regularisation and weights included,
    as the compiled step computed it: measured before that batch's update.

    A `train_step` of the user's own that does not update the model's loss tracker hides the loss,
    and so does an `evaluate()` by a callback before this one in the middle of an epoch; what was
    logged as `"loss"` is then recorded, with `exact` False. A metric of several values is recorded
    as `name[0]`, `name[1]` and so on.

    Each `fit` starts a new record. A file is appended to, and its runs are numbered from 0.

    Args:
        path: None, or the name of a CSV file to write while training runs, with the columns
            run, epoch, batch (empty for a whole epoch), name, value, exact. Defaults to None.
        every: Record every so many batches of an epoch, beginning with its first; whole epochs
            are always recorded. Defaults to 1.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used; at the start of `fit`, if the
            file is not one that a LossHistory wrote.

    Example:
        >>> history = LossHistory("losses.csv")
        >>> model.fit(x, y, epochs=5, callbacks=[history])
        >>> history.losses
    """

    def __init__(self, path: Any = None, *, every: int = 1) -> None:
        super().__init__()
        self.path = check_path(path)
        self.every = _checks.integer("every", every, minimum=1)
        self._batches_per_epoch: int
        self._tracker: Recorded | None = None
        self._file: CsvFile | None = None
        self._begin_run()

    @property
    def losses(self) -> np.ndarray[Any, Any]:
        """Each recorded batch's own loss, in order: shape (batches,), float64."""
        return self._batches.columns()["loss"]

    @property
    def batches(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of equal length: epoch, batch (both from 0), loss, logged_loss, exact."""
        return self._batches.columns()

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches in the longest epoch so far."""
        return self._batches_per_epoch

    @property
    def epochs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of equal length: epoch (from 0) and each metric, NaN where it is missing."""
        names = list(dict.fromkeys(name for _, logs in self._epochs for name in logs))
        columns: dict[str, np.ndarray[Any, Any]] = {
            "epoch": np.array([epoch for epoch, _ in self._epochs], dtype="int32")
        }
        for name in names:
            values = [logs.get(name, math.nan) for _, logs in self._epochs]
            columns[name] = np.array(values, dtype="float64")
        return columns

    def get_config(self) -> dict[str, Any]:
        """The options, such that `LossHistory(**history.get_config())` is an equal recorder."""
        return {"path": self.path, "every": self.every}

    def plot(self, guard: Any = None, ax: Any = None) -> Any:
        """Draw the batch losses, the epochs' losses and, if given, a guard's reverts.

        Args:
            guard: A guard whose reverts are marked. Defaults to None.
            ax: Matplotlib axes to draw on; new ones by default.

        Returns:
            The axes.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        from pykguard._plot import plot_history

        events = guard.events if guard else []
        return plot_history(self.batches, self.epochs, self.batches_per_epoch, events, ax)

    # ---------------------------------------------------------------- hooks
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin a new record."""
        self._begin()
        require_one_replica(self.model, "LossHistory")
        self._begin_run()
        self._tracker = install(self.model)
        if self.path is not None:
            self._file = CsvFile(self.path)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch's number."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note how many losses were added up before the batch."""
        self._first = batch
        if self._tracker is not None:
            self._before = (self._tracker.resets, self._tracker.n_added())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the losses of the batches that this execution took."""
        logged = float((logs or {}).get("loss", math.nan))
        losses = self._own_losses()
        exact = bool(losses)
        if not exact:
            self._warn_of_inexactness()
        for offset, loss in enumerate(losses or [logged]):
            number = self._first + offset
            self._batches_per_epoch = max(self._batches_per_epoch, number + 1)
            if number % self.every == 0:
                self._add(number, loss, logged, exact)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch's metrics as History holds them."""
        numbers = dict(_numbers(logs or {}))
        self._epochs.append((epoch, numbers))
        if self._file is not None:
            for name, value in numbers.items():
                self._file.write(epoch, None, name, value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the file."""
        self._close()

    # ---------------------------------------------------------------- inside
    def _begin_run(self) -> None:
        self._close()
        self._batches = Batches()
        self._epochs: list[tuple[int, dict[str, float]]] = []
        self._epoch = 0
        self._first = 0
        self._before = (0, 0)
        self._batches_per_epoch = 0
        self._warned = False

    def _warn_of_inexactness(self) -> None:
        if not self._warned:
            self._warned = True
            warn(
                "LossHistory: a batch's own loss could not be seen, since a `train_step` does not "
                "update the model's loss tracker or a callback evaluated the model within an "
                'epoch; what was logged as "loss" stands in its place, with `exact` False'
            )

    def _own_losses(self) -> list[float]:
        """The losses since `on_train_batch_begin`; none where they cannot be known.

        They cannot where the step does not update the tracker, and where a callback before this one
        has evaluated the model since, which resets it.
        """
        resets, updates = self._before
        if self._tracker is None or self._tracker.resets != resets:
            return []
        return self._tracker.since(updates)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, batch: int, loss: float, logged: float, exact: bool) -> None:
        self._batches.add(self._epoch, batch, loss, logged, exact)
        if self._file is not None:
            self._file.write(self._epoch, batch, "loss", loss, exact)
            self._file.write(self._epoch, batch, "logged_loss", logged)


def _numbers(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in logs.items():
        values = np.asarray(value)
        if values.dtype.kind not in "biuf":
            continue  # a note of some callback, not a metric
        if values.size == 1:
            yield name, float(values.reshape(()))
        else:
            yield from ((f"{name}[{i}]", float(v)) for i, v in enumerate(values.ravel()))
