"""Snapshots on TensorFlow that are taken every few batches, in memory of their own.

A state that shares its memory with the model costs nothing until the next step, which has to find
new memory for each variable then, page by page, and copy it all the same. Where states are held for
some batches only, that is the larger part of what they cost. So on a CPU what training moves is
copied: into one array, whose memory the system gives in large pages and the next state fills again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pykguard.snapshots._base import Look, Part, Snapshot, _each_name
from pykguard.snapshots._tensorflow import (
    TensorFlowSnapshots,
    _compile_reads,
    _has_finite_squares,
    _is_for_blas,
)


class TensorFlowBatchSnapshots(TensorFlowSnapshots):
    """Copies what training moves on a CPU, and shares the rest, as what is frozen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    def look(self) -> Look:
        """All checks run beside the training; see the base class."""
        return Look([], None)

    def take(self, into: Snapshot | None = None) -> Snapshot:
        """Copy the training state; see the base class."""
        layout = self._layout()
        copies = layout.read()
        wholes = {}
        if into is not None and into.parts is layout.parts:
            wholes = {whole.dtype: whole for whole in _whole_arrays(into)}
        for alike in layout.copied:
            arrays = [np.asarray(copies[place]) for place in alike.places]  # no copies
            whole = wholes.get(alike.dtype)
            if whole is None:
                whole = np.empty(alike.ends[-1], alike.dtype)
            np.concatenate([each.reshape(-1) for each in arrays], out=whole)
            pieces = zip(alike.places, arrays, pairwise(alike.ends), strict=True)
            for place, array, (start, end) in pieces:
                copies[place] = whole[start:end].reshape(array.shape)
        return self._snapshot(layout.parts, copies)

    def can_be_filled(self, snapshot: Snapshot) -> bool:
        """Whether `take()` may use the snapshot's memory again."""
        return any(map(_is_copied, snapshot.copies))

    def check_rest(
        self, snapshot: Snapshot, if_good: Callable[[], None]
    ) -> Callable[[], list[str]] | None:
        """Check all variables on a thread beside the training; see the base class."""

        def check() -> list[str]:
            are_squares_finite = all(map(_has_finite_squares, _whole_arrays(snapshot)))
            pairs = list(zip(snapshot.parts, snapshot.copies, strict=True))
            shared = self._judged([part for part, copy in pairs if not _is_copied(copy)])
            copies = {id(part.handle): copy for part, copy in pairs}
            broken = self._broken(shared, [copies[id(part.handle)] for part in shared])
            if not are_squares_finite:
                copied = self._judged([part for part, copy in pairs if _is_copied(copy)])
                broken += [p for p in copied if not np.isfinite(copies[id(p.handle)]).all()]
            if not broken:
                if_good()
            return _each_name(broken)

        return self._thread.submit(check).result

    def _layout(self) -> _Layout:
        """How the variables as they are now are copied, found out once for them."""
        variables = self.variables()
        key = tuple(map(id, variables))
        if key not in self._layouts:
            if len(self._layouts) >= 3:
                self._layouts.clear()
            self._layouts[key] = self._new_layout(variables)
        return self._layouts[key]

    def _new_layout(self, variables: Sequence[Any]) -> _Layout:
        parts = tuple(self._parts(variables))
        read = _compile_reads([part.handle for part in parts])
        frozen = {id(variable) for variable in self._model.variables if not variable.trainable}
        places: dict[np.dtype[Any], list[int]] = {}
        for i, (part, tensor) in enumerate(zip(parts, read(), strict=True)):
            is_moving = id(part.variable) not in frozen and part.handle.shape.is_fully_defined()
            if is_moving and _is_for_blas(tensor):
                places.setdefault(np.asarray(tensor).dtype, []).append(i)
        copied = []
        for dtype, alike in places.items():
            sizes = [parts[i].handle.shape.num_elements() for i in alike]
            copied.append(_Alike(dtype, alike, np.cumsum([0, *sizes]).tolist()))
        return _Layout(variables, parts, read, copied)


class _Alike(NamedTuple):
    """Parts that are copied into one array, as they hold the same type of number."""

    dtype: np.dtype[Any]
    places: list[int]
    ends: list[int]  # where each one begins in the array, and the last one ends


class _Layout(NamedTuple):
    """How to copy some variables, which it holds, so that their identities stay theirs."""

    variables: Sequence[Any]
    parts: tuple[Part, ...]
    read: Any
    copied: list[_Alike]


def _is_copied(copy: Any) -> bool:
    return isinstance(copy, np.ndarray)


def _whole_arrays(snapshot: Snapshot) -> list[np.ndarray[Any, Any]]:
    """The arrays that what was copied is a part of, one for each type of number."""
    return list({id(c.base): c.base for c in snapshot.copies if _is_copied(c)}.values())
