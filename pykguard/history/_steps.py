"""Which of the losses that a model's tracker remembers belong to which batches of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pykguard.history._tracker import Reader

Rows = np.ndarray[Any, Any]


class Steps:
    """Hands over the losses of training steps, some of them together, each exactly once.

    `evaluate()` adds its batches to the same tracker. It starts the mean anew before, so whatever
    was added since such a start and before the newest training step is not training's.

    Args:
        reader: Reads the model's tracker.
        hand_over: Called with the rows of the next steps and how many steps that are; with None for
            the rows where they cannot be known.

    Attributes:
        mean_before_reset: Keras' running mean when it was started anew; None if it was not since
            the last training step.
        n_resets: How often it was started anew.
    """

    def __init__(self, reader: Reader, hand_over: Callable[[Rows | None, int], None]) -> None:
        self.mean_before_reset: float | None = None
        self.n_resets = 0
        self._reader = reader
        self._hand_over = hand_over
        self._pending = 0
        self._aside = True
        self._early: Rows | None = None
        self._is_hidden = self._is_ambiguous = False
        self._seen = reader.n_added()
        reader.tracker.on_reset = self._before_reset

    def close(self) -> None:
        """Let go of the tracker."""
        self._reader.tracker.on_reset = None

    def count(self, planned: int, left: int | None) -> int:
        """How many steps an execution took: the last of an epoch may find less data than planned.

        Args:
            planned: The steps of an execution.
            left: How many batches the epoch still has; None where that is not known.
        """
        if self._early is not None:
            return len(self._early)
        if left is not None:
            return min(planned, left)
        added = self._reader.n_added() - self._seen - self._pending
        if self._aside and added > planned:
            self._is_ambiguous = True  # there are batches of an evaluation among them
        return min(planned, added) if added > 0 else planned

    def took(self, n: int) -> None:
        """Note that `n` steps of training were taken."""
        if self._aside or self._is_hidden:
            self._resume(n)
            return
        self._pending += n
        if self._pending + n > self._reader.tracker.size:
            self.flush()

    def flush(self) -> None:
        """Hand over what was not yet."""
        if self._pending:
            n, expected = self._pending, self._seen + self._pending
            rows = self._reader.last(n, expected)
            self._seen = self._reader.n_added() if rows is None else expected
            self._pending = 0
            self._hand_over(rows, n)

    def mean(self) -> float:
        """Keras' running mean after the newest training step."""
        return self._reader.mean() if self.mean_before_reset is None else self.mean_before_reset

    def _resume(self, n: int) -> None:
        n_added, rows = self._reader.n_added(), self._early
        enough = n_added - self._seen >= n
        if rows is None and enough and not self._is_hidden and not self._is_ambiguous:
            rows = self._reader.last(n, n_added)
        self._is_hidden |= not enough
        self._is_ambiguous = False
        self._seen, self._aside, self._early = n_added, False, None
        if rows is None or len(rows) == n:
            self.mean_before_reset = None
        self._hand_over(rows, n)

    def _before_reset(self) -> None:
        n_added, n = self._reader.n_added(), self._pending
        added = n_added - self._seen
        if not self._aside:
            self.mean_before_reset = self._reader.mean()
            known = n <= added <= self._reader.tracker.size and not self._is_hidden
            rows = self._reader.last(added, n_added) if known else None
            if rows is not None and added > n:  # a step whose end was not reported yet
                self._early = rows[n:]
            self._pending = 0
            if n:
                self._hand_over(None if rows is None else rows[:n], n)
        self._seen, self._aside = n_added, True
        self.n_resets += 1
