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

    def look_closely(self) -> list[str]:
        """The names of variables that are not finite among those that `look()` left."""
        if self._seen is None:
            return []
        check = self.snapshots.check_rest(self._seen, if_good=lambda: None)
        return check() if check is not None else []

    def drop_seen(self) -> None:
        """Do not keep what `look()` saw."""
        self._seen = None

    def keep_seen(self, *, checked: bool) -> None:
        """Keep what `look()` saw, and begin to check what it left, unless that was checked."""
        self.verdict()
        seen, self._seen = self._seen, None
        if seen is None:
            self.keep()
            return
        if checked:
            self.snapshot = seen
            return
        self._before, self.snapshot = self.snapshot, seen
        self._check = self.snapshots.check_rest(seen, if_good=self._drop_before)
        if self._check is None:
            self._drop_before()

    def keep(self) -> None:
        """Keep the state as it is now, unchecked."""
        self.verdict()
        into, self.snapshot = self.snapshot, None  # not to be gone back to while it is filled
        self.snapshot = self.snapshots.take(into=into)

    def is_unproven(self) -> bool:
        """Whether a check has begun that nobody has asked for its result."""
        return self._check is not None

    def verdict(self) -> list[str]:
        """Wait for the check, if one has begun.

        Returns:
            The names of variables that are not finite; the state that was kept before is then the
            one to go back to again.
        """
        broken = self._check() if self._check is not None else []
        self._check = None
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
