"""The Python half of R's guarded loops.

R's `for` goes through what is there beforehand, so R asks for each epoch and each batch by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pykguard.loop import GuardedLoop
from pykguard.loop._guarded_loop import make_loop
from pykguard.loop._words import Words


class RLoop(GuardedLoop):
    """A loop whose epochs and batches are begun one by one, counted from 1."""

    _words = Words(1, "`loop$next_batch(data)`", "`loop$report(loss)`", "`loop$state()`")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rows: list[dict[str, float]] = []

    def next_epoch(self) -> int | None:
        """End the epoch that is open, and begin the next.

        Returns:
            Its number from 1; None where the training has come to its end.

        Raises:
            LoopError: The epoch that is open lacks a report or a batch; or the loop has run.
        """
        course = self._course
        if course.epoch is None:
            course.claim()
            course.begin()
            epoch = self._epochs[0]
        else:
            epoch = course.epoch + 1
            self._end_epoch()
            if course.is_stopped or epoch not in self._epochs:
                course.finish()
                return None
        course.begin_epoch(epoch)
        return epoch + 1

    def wants_batch(self, caller: str) -> bool:
        """Whether the epoch goes on, by its `steps` and its callbacks.

        Args:
            caller: The function of R that asks.

        Raises:
            LoopError: No epoch is open, or the last batch was not reported.
        """
        course = self._course
        self._require_epoch(caller)
        course.require_report()
        return course.n_left() != 0 and not (course.n_batches and course.is_stopped)

    def begin_batch(self) -> int:
        """Begin the next batch; returns its number from 1."""
        self._course.begin_batch()
        return self._course.n_batches + 1

    def end_batch(
        self, loss: Any, size: Any, state: Any, metrics: Mapping[str, Any] | None
    ) -> None:
        """Report a batch."""
        self.report(loss, size=size, state=state, **(metrics or {}))

    def validated(self, metrics: Mapping[str, Any] | None) -> None:
        """Report a validation."""
        self.report_validation(**(metrics or {}))

    def state(self) -> Any:
        """The same as in Python, in lists, which R can name."""
        state = super().state()
        return [list(each) for each in state] if isinstance(state, list) else list(state)

    def data_ended(self) -> None:
        """Note that there are no more batches for this epoch."""
        self._course.data_ended()

    def leave(self, by_error: bool) -> str | None:
        """End the training where R leaves the loop; returns where, if that was by an error."""
        return self._leave(by_error=by_error)

    def is_stopped(self) -> bool:
        """Whether a callback wants the training to stop."""
        return self._course.is_stopped

    def has_ended(self) -> bool:
        """Whether the training has ended, in whichever way."""
        return self._course.has_ended

    def record(self) -> dict[str, Any]:
        """The History, with NaN in epochs that lack a metric, and epochs counted from 1."""
        history = self.history
        names = list(history.history)
        return {
            "params": history.params,
            "metrics": {name: [row.get(name, math.nan) for row in self._rows] for name in names},
            "epoch": [epoch + 1 for epoch in getattr(history, "epoch", [])],
        }

    def _end_epoch(self) -> None:
        before = {name: len(values) for name, values in self.history.history.items()}
        self._course.end_epoch()
        recorded = self.history.history.items()
        new = {name: values[-1] for name, values in recorded if len(values) > before.get(name, 0)}
        self._rows.append(new)


def make(*args: Any, **options: Any) -> RLoop:
    """What `guarded_loop()` makes, for R."""
    return make_loop(RLoop, *args, **options)
