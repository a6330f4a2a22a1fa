"""The states that SpikeGuard goes back to, by the names that its rule has for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pykguard._optimizers import innermost, optimizers
from pykguard.learning_rate import scale_velocities
from pykguard.rules.spike import Moves, Slot
from pykguard.snapshots import Snapshot, Snapshots

SAMPLED = 4096  # values of a kernel by which it is seen whether its units learn, and
LEAST_UNITS, MOST_UNITS = 8, 64  # the units that it has at least and at most
LONGEST = 2**16  # values of a unit; longer ones are not looked at


class Kept(NamedTuple):
    """A state, the epoch that it was kept in, and what the rate had been scaled by until then."""

    snapshot: Snapshot
    epoch: int
    scale: float


class Slots:
    """Keeps states under names; several names may stand for one state.

    Args:
        snapshots: Takes and restores them, metrics included.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self.snapshots = snapshots
        snapshots.leave_checks()
        self._held: dict[Slot, Kept] = {}
        self._check: Callable[[], list[str]] | None = None
        self._broken: list[str] = []

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._held

    def __getitem__(self, slot: Slot) -> Kept:
        return self._held[slot]

    def __setitem__(self, slot: Slot, kept: Kept) -> None:
        self._held[slot] = kept

    def prepare(self) -> None:
        """Keep a state and forget it, so that the first step finds compiled what that takes."""
        self.snapshots.accept_infinite()
        self.take(0, 1.0)
        self.broken()
        self.drop_before()

    def take(self, epoch: int, scale: float) -> None:
        """Keep the state as it is now as "before", and begin to check that it is finite."""
        old = self.drop_before()
        broken, seen = self.snapshots.look()
        if seen is None:
            seen = self.snapshots.take(into=old)
        self._broken = broken
        self._check = self.snapshots.check_rest(seen, if_good=_nothing)
        self._held["before"] = Kept(seen, epoch, scale)

    def drop_before(self) -> Snapshot | None:
        """Forget the state before; returns it if no other name stands for it."""
        old = self._held.pop("before", None)
        self._check, self._broken = None, []
        if old is None or any(kept is old for kept in self._held.values()):
            return None
        return old.snapshot

    def broken(self) -> list[str]:
        """The names of variables of the state before that are not finite."""
        if self._check is not None:
            self._broken, self._check = self._broken + self._check(), None
        return self._broken

    def keep(self, slot: Slot) -> None:
        """Let another name stand for the state before."""
        self._held[slot] = self._held["before"]

    def put_back(self, slot: Slot, model: Any, epoch: int, scale: float) -> Kept:
        """Put a state into the model, as it would be had the rate always been what it is now.

        Args:
            slot: Its name.
            model: The model.
            epoch: The epoch that runs; the metrics of another one are started anew.
            scale: What the rate has been scaled by until now.
        """
        kept = self._held[slot]
        self.snapshots.restore(kept.snapshot)
        if kept.epoch != epoch:
            for metric in model.metrics:
                getattr(metric, "start_over", metric.reset_state)()
        if kept.scale != scale:
            for optimizer in optimizers(model):
                scale_velocities(innermost(optimizer), scale / kept.scale)
        if slot != "before":
            self._held["proven"] = kept
        return kept

    def arrays(self, slot: Slot, model: Any) -> list[np.ndarray[Any, Any]]:
        """A state as NumPy arrays on the host, without metrics."""
        snapshot = self._held[slot].snapshot
        of_metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
        pairs = zip(snapshot.parts, self.snapshots.to_arrays(snapshot), strict=True)
        return [array for part, array in pairs if id(part.variable) not in of_metrics]

    def kernels(self, model: Any) -> list[np.ndarray[Any, Any]]:
        """What some units of each kernel hold now, as matrices with a column for each of them.

        All values of a unit, as most rows of an embedding move seldom; so of a very large one none.
        """
        kernels, n = [], []
        for variable in model.trainable_variables:
            length = math.prod(variable.shape[:-1])
            if len(variable.shape) >= 2 and 0 < length <= LONGEST:
                kernels.append(variable)
                n.append(max(LEAST_UNITS, min(MOST_UNITS, SAMPLED // length)))
        return self.snapshots.sample(kernels, n)


def moves_of(first: Any, middle: Any, last: Any) -> list[Moves]:
    """How each of a kernel's units moved between three looks at it."""
    one, other = np.diff([np.asarray(look, "float64") for look in (first, middle, last)], axis=0)
    norms = (np.sqrt(np.sum(each * each, axis=0)) for each in (one, other))
    return list(map(Moves, *(each.tolist() for each in (*norms, np.sum(one * other, axis=0)))))


def _nothing() -> None:
    """A state that is found finite needs nothing more."""
