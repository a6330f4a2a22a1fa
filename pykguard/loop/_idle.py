"""Whether the optimizers of a loop are those that train its models."""

from __future__ import annotations

from typing import Any

from pykguard._framework import to_numpy
from pykguard._optimizers import innermost
from pykguard._warnings import warn
from pykguard.learning_rate import counter_of


class StepCounts:
    """How many steps each optimizer took, to warn of those that took none."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self._pairs = pairs
        self._before: list[int] = []

    def begin_epoch(self) -> None:
        """Note the counts."""
        self._before = self._now()

    def warn_of_idle(self) -> None:
        """Warn of optimizers that took no step since the epoch began."""
        counts = zip(self._before, self._now(), self._pairs, strict=True)
        for before, after, (model, optimizer) in counts:
            if before == after and innermost(optimizer) is optimizer:
                warn(
                    f"guarded_loop: the optimizer of {model.name!r} took no step in the first "
                    "epoch; what another one holds is not put back by guards"
                )

    def _now(self) -> list[int]:
        return [int(to_numpy(counter_of(innermost(each)))) for _, each in self._pairs]
