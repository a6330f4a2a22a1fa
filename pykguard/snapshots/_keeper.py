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
        self._seen: Snapshot | None = None

    def look(self) -> list[str]:
        """The names of variables that are not finite now, before `keep_seen()` or `drop_seen()`.

        Of large variables it may be `verdict()` that tells.
        """
        broken, self._seen = self.snapshots.look()
        return broken

    def drop_seen(self) -> None:
        """Do not keep what `look()` saw."""
        self._seen = None

    def keep_seen(self) -> None:
        """Keep what `look()` saw, and begin to check what it left."""
        self.verdict()
        seen, self._seen = self._seen, None
        if seen is None:
            self.keep()
            return
        self._before, self.snapshot = self.snapshot, seen
        self._check = self.snapshots.check_rest(seen, if_good=self._drop_before)
        if self._check is None:
            self._drop_before()

    def keep(self) -> None:
        """Keep the state as it is now, unchecked."""
        self.verdict()
        self.snapshot = self.snapshots.take(into=self.snapshot)

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
        broken = check() if check is not None else []
        if broken:
            self.snapshot = self._before
        self._drop_before()
        return broken

    def _drop_before(self) -> None:
        self._before = None

    def put_back(self) -> None:
        """Put the kept state into the model.

        Raises:
            SnapshotError: None was kept.
        """
        if self.snapshot is None:
            raise SnapshotError("no state was kept to go back to")
        self.snapshots.restore(self.snapshot)
