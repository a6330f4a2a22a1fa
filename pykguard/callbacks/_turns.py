"""Which epoch of a model was taken back, so that several guards in one list do not disagree.

The logs of an epoch describe the weights it ended with. Once one guard has put back another state,
a later guard in the list must neither judge those logs nor keep that state under their value.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_taken_back: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def take_back(model: Any, epoch: int) -> None:
    """Note that a guard put back another state at the end of `epoch`."""
    _taken_back[model] = epoch


def was_taken_back(model: Any, epoch: int) -> bool:
    """Whether a guard earlier in the list has put back another state at the end of `epoch`."""
    return _taken_back.get(model) == epoch


def forget(model: Any) -> None:
    """Forget earlier runs."""
    _taken_back.pop(model, None)
