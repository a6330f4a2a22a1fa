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
SPARE = 3  # states whose memory is there for the next ones; so many differ in calm


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
        self._held: dict[Slot, Kept] = {}
        self._spare: list[Snapshot] = []
        self._check: Callable[[], list[str]] | None = None
        self._broken: list[str] = []

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._held

    def __getitem__(self, slot: Slot) -> Kept:
        return self._held[slot]

    def __setitem__(self, slot: Slot, kept: Kept) -> None:
        old = self._held.get(slot)
        self._held[slot] = kept
        self._spare_if_unused(old)

    def prepare(self) -> None:
        """Keep states and forget them, so that the first steps find compiled what that takes.

        The memory of the first ones is there as well then, since the system gives it slowly.
        """
        self.snapshots.accept_infinite()
        for _ in range(SPARE):
            self._spare, spare = [], self._spare
            self.take(0, 1.0)
            self.broken()
            self.drop_before()
            self._spare += spare

    def take(self, epoch: int, scale: float) -> None:
        """Keep the state as it is now as "before", and begin to check that it is finite."""
        self.drop_before()
        broken, seen = self.snapshots.look()
        if seen is None:
            seen = self.snapshots.take(into=self._spare.pop() if self._spare else None)
        self._broken = broken
        self._check = self.snapshots.check_rest(seen, if_good=_nothing)
        self._held["before"] = Kept(seen, epoch, scale)

    def drop_before(self) -> None:
        """Forget the state before, if no other name stands for it."""
        self._check, self._broken = None, []
        self._spare_if_unused(self._held.pop("before", None))

    def _spare_if_unused(self, old: Kept | None) -> None:
        """Fill the memory of a state again that no name stands for any more."""
        if old is None or any(kept is old for kept in self._held.values()):
            return
        if self.snapshots.can_be_filled(old.snapshot) and len(self._spare) < SPARE:
            self._spare.append(old.snapshot)

    def release_spare(self) -> None:
        """Give the memory back that no state is in."""
        self._spare.clear()

    def broken(self) -> list[str]:
        """The names of variables of the state before that are not finite."""
        if self._check is not None:
            self._broken, self._check = self._broken + self._check(), None
        return self._broken

    def keep(self, slot: Slot) -> None:
        """Let another name stand for the state before."""
        self[slot] = self._held["before"]

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
            self["proven"] = kept
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
