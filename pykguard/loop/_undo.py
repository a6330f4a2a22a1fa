"""The state before a batch, to which an error goes back."""

from __future__ import annotations

from typing import Any

from pykguard.snapshots import Snapshot, snapshots_for


class Undo:
    """Keeps the state before the batch that is open, if that is wanted."""

    def __init__(self, model: Any, *, is_wanted: bool) -> None:
        self._snapshots = snapshots_for(model, optimizer=True) if is_wanted else None
        self._before: Snapshot | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a state to go back to."""
        return self._before is not None

    def keep(self) -> None:
        """Keep the state as it is now, in the memory of the last one."""
        if self._snapshots is not None:
            into, self._before = self._before, None  # not to be gone back to while it is filled
            self._before = self._snapshots.take(into=into)

    def put_back(self) -> None:
        """Put the kept state, if any, into the model, without asking other processes."""
        if self._snapshots is not None and self._before is not None:
            self._snapshots.alone = True
            self._snapshots.restore(self._before)

    def forget(self) -> None:
        """Let the kept state go."""
        self._before = None
