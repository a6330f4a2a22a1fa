"""Which epoch of a model was taken back, so that several guards in one list do not disagree.

The logs of an epoch describe the weights it ended with. Once one guard has put back another state,
a guard behind it in the list must neither judge those logs nor keep that state under their value;
and a guard before it, which had accepted the epoch, must not go back to what was found bad.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref


class TakenBack(NamedTuple):
    """An epoch that was taken back, the one whose end state replaced it, and by which guard."""

    epoch: int
    restored_from: int
    guard: ref[Any]  # weak: a guard holds its model, which would never be freed


_taken_back: WeakKeyDictionary[Any, TakenBack] = WeakKeyDictionary()


def take_back(model: Any, epoch: int, restored_from: int, guard: Any) -> None:
    """Note that `guard` put back, at the end of `epoch`, the end state of `restored_from`."""
    _taken_back[model] = TakenBack(epoch, restored_from, ref(guard))


def taken_back(model: Any, epoch: int) -> TakenBack | None:
    """What was noted for `epoch`; None if no guard has put back another state at its end."""
    last = _taken_back.get(model)
    return last if last is not None and last.epoch == epoch else None


def taken_back_since(model: Any, epoch: int) -> TakenBack | None:
    """The same for `epoch` or one after it."""
    last = _taken_back.get(model)
    return last if last is not None and last.epoch >= epoch else None


def forget(model: Any) -> None:
    """Forget earlier runs."""
    _taken_back.pop(model, None)
