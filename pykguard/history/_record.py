"""What was recorded of one fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pykguard import _checks
from pykguard.events import Event
from pykguard.history._columns import Batches, Epochs
from pykguard.history._explanation import Explanation
from pykguard.history._facts import Facts


class Tables(NamedTuple):
    """All that is recorded of one fit."""

    batches: Batches
    epochs: Epochs
    facts: list[Facts]
    events: list[Event]


class View:
    """What users read of a record. Epochs and batches count from 0."""

    _tables: Tables

    @property
    def losses(self) -> np.ndarray[Any, Any]:
        """Each recorded batch's own loss, in order: shape (batches,), float64."""
        return self._tables.batches.column("loss")

    @property
    def batches(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of equal length, a row a batch.

        `epoch`, `batch`; `loss`, the batch's own; `logged_loss`, the running mean that was logged
        after it; `console_loss`, what the progress bar made of that; `learning_rate`, the one that
        its step used; `seconds` since the fit began; `size` in rows; `exact`, whether `loss` is the
        very number that the step computed, and if not, `error_bound`: `loss` is off by at most so
        much. Other metrics follow as `logged_<name>`, also as running means. NaN, or a size of 0,
        is what there was not.
        """
        return self._tables.batches.columns()

    @property
    def epochs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of equal length: epoch (from 0) and each metric, NaN where it is missing."""
        return self._tables.epochs.columns()

    @property
    def events(self) -> list[Event]:
        """What the guards in the same fit did, oldest first."""
        return list(self._tables.events)

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches in the longest epoch so far."""
        return self._tables.batches.per_epoch

    def explain(self) -> Explanation:
        """Why console, History, batch losses and `evaluate()` differ, for each epoch.

        With `l` the batches' own losses of an epoch and `n` the batches' sizes:

            History - last batch = (History - m) + (m - w) + (w - mean(l)) + (mean(l) - l[-1])

        where `m` is Keras' running mean as the epoch ended and `w = sum(n * l) / sum(n)`: logs that
        a callback changed, float32 (or metrics that were reset), a partial batch, and a mean that
        is compared with one value. `History - evaluate()` goes on from `w` to the loss in training
        mode with the epoch's last weights (weights moving; with dropout also what other draws
        make, and with BatchNorm what batches of other rows make), from there to BatchNorm's moving
        statistics, and from there to the loss without dropout.

        Returns:
            The explanation: print it, or take its `quantities`, `differences` and `parts`.
        """
        return Explanation(self._tables.facts)

    def plot(self, guard: Any = None, ax: Any = None) -> Any:
        """Draw the batch losses, the epochs' losses, the learning rate, and reverts.

        Args:
            guard: A guard whose reverts are marked, in place of those that were recorded. Defaults
                to None.
            ax: Matplotlib axes to draw the losses on; new ones by default.

        Returns:
            The axes of the losses.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        from pykguard.picture._plot import plot_history

        events = self.events if guard is None else guard.events
        return plot_history(self.batches, self.epochs, self.batches_per_epoch, events, ax)

    def to_pandas(self, what: str = "batches") -> Any:
        """A table as a data frame of pandas.

        Args:
            what: `"batches"` or `"epochs"`. Defaults to "batches".

        Raises:
            OptionValueError: It is something else.
            ImportError: pandas is not installed.
        """
        import pandas

        what = _checks.choice("what", what, ("batches", "epochs"))
        return pandas.DataFrame(getattr(self, what))


class Record(View):
    """The record of one `fit`: its batches, its epochs, and what guards did in it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
