"""Which of the losses that a model's tracker remembers belong to which batches of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import numpy as np

from pykguard.history._tracker import Reader

Rows = np.ndarray[Any, Any]


class Steps:
    """Hands over the losses of training steps, some of them together, each exactly once.

    `evaluate()` adds its batches to the same tracker. It starts the mean anew before, so whatever
    was added since such a start and before the newest training step is not training's.

    Args:
        reader: Reads the model's tracker.
        hand_over: Called with the rows of some steps, None where they cannot be known, and what was
            noted of these steps.

    Attributes:
        noted: Something of each step that was taken and not handed over yet.
        room: As long as fewer are noted, `took` need not be called.
        n_resets: How often Keras' running mean was started anew.
    """

    def __init__(self, reader: Reader, hand_over: Callable[[Rows | None, list[Any]], None]) -> None:
        self.noted: list[Any] = []
        self.room = 0
        self._means: list[float] = []  # when it was started anew since the last execution
        self.n_resets = 0
        self._reader = reader
        self._hand_over = hand_over
        self._aside = True
        self._early: Rows | None = None
        self._is_hidden = self._is_ambiguous = False
        self._seen = reader.n_added()
        self._listener = WeakMethod(self._before_reset)
        reader.tracker.listeners.append(self._listener)

    def close(self) -> None:
        """Let go of the tracker."""
        if self._listener in self._reader.tracker.listeners:
            self._reader.tracker.listeners.remove(self._listener)

    def count(self, planned: int, left: int | None, disturbed: bool) -> int:
        """How many steps an execution took: the last of an epoch may find less data than planned.

        Args:
            planned: The steps of an execution.
            left: How many batches the epoch still has; None where that is not known.
            disturbed: Whether there was an evaluation since the execution before.
        """
        if self._early is not None:
            return len(self._early)
        added = self._reader.n_added() - self._seen - len(self.noted)
        if disturbed and left is not None:
            return min(planned, left)
        self._is_ambiguous = disturbed  # there are batches of the evaluation among them
        return min(planned, added) if added > 0 else planned

    def took(self, n: int) -> None:
        """Note that an execution has ended, whose `n` steps of training are the last noted."""
        self._means.clear()
        if self._aside or self._is_hidden:
            self._resume(n)
            return
        if len(self.noted) + n > self._reader.tracker.size:
            self.flush()

    def flush(self, *, within: bool = False) -> None:
        """Hand over what was not yet.

        Args:
            within: Whether an execution may have ended of which this was not told yet.
        """
        if not self.noted:
            return
        n, expected = len(self.noted), self._seen + len(self.noted)
        rows = self._reader.last(n, expected)
        if rows is None:
            n_added = self._reader.n_added()
            more = n_added - expected
            if within and more > 0 and n + more <= self._reader.tracker.size:
                rows = self._reader.last(n + more, n_added)
                rows = None if rows is None else rows[:n]
            else:
                expected = n_added
        self._seen = expected
        self._give(rows)

    def mean(self, logged: float) -> tuple[float, bool]:
        """Keras' running mean as an epoch ended, and whether an evaluation had got into it.

        Args:
            logged: The epoch's loss as it was logged, by which a mean is recognised that was
                started anew between the last execution and the epoch's end.
        """
        means = [*self._means, self._reader.mean()]
        for place, mean in enumerate(means):
            if np.float32(mean) == np.float32(logged):
                return mean, place > 0
        return means[0], False

    def _resume(self, n: int) -> None:
        n_added, rows = self._reader.n_added(), self._early
        if rows is None:
            self._is_hidden |= n_added - self._seen < n
            if not self._is_hidden and not self._is_ambiguous:
                rows = self._reader.last(n, n_added)
        self._seen, self._aside, self._early = n_added, False, None
        self._is_ambiguous = False
        self.room = 0 if self._is_hidden else self._reader.tracker.size // 2
        self._give(rows)

    def _give(self, rows: Rows | None) -> None:
        noted, self.noted = self.noted, []
        self._hand_over(rows, noted)

    def _before_reset(self) -> None:
        self._means.append(self._reader.mean())
        n_added, n = self._reader.n_added(), len(self.noted)
        added = n_added - self._seen
        if not self._aside:
            known = n <= added <= self._reader.tracker.size and not self._is_hidden
            rows = self._reader.last(added, n_added) if known else None
            if rows is not None and added > n:  # a step whose end was not reported yet
                self._early = rows[n:]
            if n:
                self._give(None if rows is None else rows[:n])
        self._seen, self._aside, self.room = n_added, True, 0
        self.n_resets += 1
