"""Keeping the one state to go back to, without paying for the check of a new one at once."""

from __future__ import annotations

from collections.abc import Callable

from pykguard._errors import SnapshotError
from pykguard.snapshots._base import Snapshot, Snapshots


class Keeper:
    """Holds one snapshot; where its check takes time, the one before it until that is done.

    Attributes:
        snapshots: What takes and restores them.
        snapshot: The state to go back to; None before there is one.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self.snapshots = snapshots
        self.snapshot: Snapshot | None = None
        self._before: Snapshot | None = None
        self._check: Callable[[], list[str]] | None = None

    def keep(self, *, check: bool = True) -> None:
        """Keep the state as it is now, which `non_finite_at_once()` has found good.

        Args:
            check: Whether to begin a check of what that has left unread.
        """
        self.verdict()
        if self.snapshot is None or not check:
            self.snapshot = self.snapshots.take(into=self.snapshot)
            return
        taken = self.snapshots.take(into=self.snapshot)
        self._check = self.snapshots.check_rest(taken)
        self._before = self.snapshot if self._check is not None else None
        self.snapshot = taken

    def is_unproven(self) -> bool:
        """Whether a check has begun that nobody has asked for its result."""
        return self._check is not None

    def verdict(self) -> list[str]:
        """Wait for the check, if one has begun.

        Returns:
            The names of variables that are not finite; the state that was kept before is then the
            one to go back to again.
        """
        check, self._check = self._check, None
        before, self._before = self._before, None
        broken = check() if check is not None else []
        if broken:
            self.snapshot = before
        return broken

    def put_back(self) -> None:
        """Put the kept state into the model.

        Raises:
            SnapshotError: None was kept.
        """
        if self.snapshot is None:
            raise SnapshotError("no state was kept to go back to")
        self.snapshots.restore(self.snapshot)
