"""The learning rate of a step that is taken outside Keras."""

from __future__ import annotations

import math
import weakref
from typing import Any

from pykguard._optimizers import innermost
from pykguard.history._rate import StepRate
from pykguard.learning_rate import as_given, is_schedule_like, value_now


class LoopRate(StepRate):
    """The rate of the first optimizer, noted before its step: a schedule goes on with it.

    A callable is not asked, since it may do more than give a number; its rate is NaN.
    """

    def __init__(self, optimizer: Any) -> None:
        self.traced = None
        self._optimizer = weakref.ref(innermost(optimizer))
        self._is_wanted = False
        self._noted = math.nan

    def attach(self, model: Any) -> None:
        """Note rates from now on."""
        self._is_wanted = True

    def note(self) -> None:
        """Note the rate that the next step will use, if anybody wants to know."""
        if self._is_wanted:
            rate = as_given(self.optimizer)
            is_known = not callable(rate) or is_schedule_like(rate)
            self._noted = value_now(self.optimizer) if is_known else math.nan

    def in_step(self) -> float:
        """The noted rate."""
        return self._noted
