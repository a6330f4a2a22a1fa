"""The error of a function within a compiled step, which the backend re-raises as its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pykguard._errors import GuardError

_last: list[GuardError | KeyboardInterrupt] = []


@contextmanager
def noted() -> Iterator[None]:
    """Keep an error that passes, for `taken()`."""
    try:
        yield
    except (GuardError, KeyboardInterrupt) as error:
        _last[:] = [error]
        raise


def taken() -> GuardError | KeyboardInterrupt | None:
    """The last error that was noted, and forget it."""
    return _last.pop() if _last else None
