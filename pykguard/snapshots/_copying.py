"""What backends share whose snapshots are true copies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pykguard.snapshots._base import Part, Snapshot, Snapshots


class CopyingSnapshots(Snapshots):
    """Copies each variable into the memory of the snapshot before, unless it is frozen.

    A variable that is not trainable seldom changes, but it may: a target network follows another,
    BatchNorm keeps statistics. So it is compared, and copied if it is not the same.
    """

    def can_be_filled(self, snapshot: Snapshot) -> bool:
        """Whether `take()` may use the snapshot's memory again."""
        return True

    def _copy(self, parts: Sequence[Part], into: Snapshot | None) -> Sequence[Any]:
        if into is None:
            return self._duplicate(parts)
        copies = list(into.copies)
        frozen = self._frozen(parts)
        same = self._equal([parts[i] for i in frozen], [copies[i] for i in frozen])
        kept = {i for i, is_same in zip(frozen, same, strict=True) if is_same}
        moved = [i for i in range(len(parts)) if i not in kept]
        filled = self._refill([parts[i] for i in moved], [copies[i] for i in moved])
        for i, copy in zip(moved, filled, strict=True):
            copies[i] = copy
        return copies

    def _frozen(self, parts: Sequence[Part]) -> list[int]:
        of_the_model = {id(v) for v in self._model.variables if not v.trainable}
        return [i for i, part in enumerate(parts) if id(part.variable) in of_the_model]

    @abstractmethod
    def _duplicate(self, parts: Sequence[Part]) -> Sequence[Any]:
        """Copy the parts into new memory."""

    @abstractmethod
    def _refill(self, parts: Sequence[Part], copies: Sequence[Any]) -> Sequence[Any]:
        """Copy the parts into the memory of copies of theirs, which are not used again."""

    @abstractmethod
    def _equal(self, parts: Sequence[Part], copies: Sequence[Any]) -> list[bool]:
        """Whether each part is what its copy is; a NaN is equal to nothing."""
