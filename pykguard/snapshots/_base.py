"""What every backend's snapshots can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pykguard._errors import SnapshotError
from pykguard._optimizers import new_values, optimizers
from pykguard._warnings import warn
from pykguard.snapshots._state import training_state


class Snapshot:
    """A copy of a training state.

    Attributes:
        variables: The variables that it is a copy of, matched by identity.
        copies: Their copies, in the same order, as the backend keeps them.
    """

    def __init__(self, variables: Sequence[Any], copies: Sequence[Any]) -> None:
        self.variables = tuple(variables)
        self.copies = tuple(copies)

    def is_of(self, variables: Sequence[Any]) -> bool:
        """Whether it is a copy of exactly these variables, in this order."""
        return len(variables) == len(self.variables) and all(
            a is b for a, b in zip(variables, self.variables, strict=True)
        )


class Snapshots(ABC):
    """Takes copies of a model's training state and puts them back.

    A backend says how buffers are made, filled and written back; when that happens is the same
    for all. The variables are looked up anew at each copy, so that an optimizer which is built
    late, or whose variable list changes, is covered.
    """

    def __init__(self, model: Any, *, optimizer: bool) -> None:
        self._model = model
        self._optimizer = optimizer
        self._not_judged: set[int] = set()

    def variables(self) -> list[Any]:
        """The variables of the training state as they are now."""
        return training_state(self._model, optimizer=self._optimizer)

    def take(self, into: Snapshot | None = None) -> Snapshot:
        """Copy the training state.

        Args:
            into: A snapshot that is no longer needed; its buffers are filled again if they fit.
        """
        variables = self.variables()
        if into is None or not into.is_of(variables):
            into = Snapshot(variables, self._allocate(variables))
        self._fill(into)
        return into

    def restore(self, snapshot: Snapshot) -> None:
        """Put a copied state back into the model, all of it.

        Variables of an optimizer that did not exist then are given the values of a new optimizer.
        """
        known = {id(variable) for variable in snapshot.variables}
        newer = {id(v): v for v in self.variables() if id(v) not in known}
        self._write_back(snapshot)
        if newer:
            for variable in self._renew(newer):
                del newer[id(variable)]
        if newer:
            warn(
                "these variables did not exist when the state was kept, so they were left as "
                f"they are: {names(list(newer.values()))}"
            )

    def accept_infinite(self) -> list[str]:
        """Do not judge variables that are infinite now: some models hold masks of -inf.

        Returns:
            The names of those that hold a NaN, which are judged.
        """
        variables = self.variables()
        broken = [variables[i] for i in self._non_finite(variables)]
        with_nan = [v for v in broken if np.isnan(keras.ops.convert_to_numpy(v)).any()]
        self._not_judged = {id(v) for v in broken} - {id(v) for v in with_nan}
        return [name(v) for v in with_nan]

    def non_finite(self) -> list[str]:
        """Names of the variables that hold a NaN or an infinity."""
        variables = [v for v in self.variables() if id(v) not in self._not_judged]
        return [name(variables[i]) for i in self._non_finite(variables)]

    def to_arrays(self, snapshot: Snapshot) -> list[np.ndarray[Any, Any]]:
        """The snapshot as NumPy arrays on the host, in the order of its variables."""
        return [self._to_array(copy) for copy in snapshot.copies]

    def from_arrays(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Snapshot:
        """A snapshot of this model with the given contents.

        Raises:
            SnapshotError: The arrays are not as many, or not of the shapes, that the model has.
        """
        snapshot = self.take()
        wanted = [tuple(v.shape) for v in snapshot.variables]
        given = [tuple(np.shape(a)) for a in arrays]
        if wanted != given:
            raise SnapshotError(
                f"the saved state has {len(given)} arrays and the model {len(wanted)} variables, "
                "or their shapes differ: it belongs to another model or optimizer"
            )
        self._load(snapshot, arrays)
        return snapshot

    def _renew(self, variables: Mapping[int, Any]) -> Iterator[Any]:
        for optimizer in optimizers(self._model):
            if not any(id(v) in variables for v in optimizer.variables):
                continue
            try:
                pairs = new_values(optimizer)
            except Exception:  # an optimizer of the user's own that cannot be made from its config
                continue
            for variable, value in pairs:
                if id(variable) in variables:
                    variable.assign(value)
                    yield variable

    @abstractmethod
    def _allocate(self, variables: Sequence[Any]) -> Sequence[Any]:
        """Make one buffer on the device for each variable."""

    @abstractmethod
    def _fill(self, snapshot: Snapshot) -> None:
        """Copy the variables into the snapshot's buffers."""

    @abstractmethod
    def _write_back(self, snapshot: Snapshot) -> None:
        """Copy the snapshot's buffers into the variables."""

    @abstractmethod
    def _non_finite(self, variables: Sequence[Any]) -> list[int]:
        """Indices of the variables that hold a NaN or an infinity."""

    @abstractmethod
    def _to_array(self, copy: Any) -> np.ndarray[Any, Any]:
        """One buffer as a NumPy array."""

    @abstractmethod
    def _load(self, snapshot: Snapshot, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        """Fill the snapshot's buffers from arrays of the same shapes."""


def name(variable: Any) -> str:
    """The variable's path in its model."""
    return str(getattr(variable, "path", None) or variable.name)


def names(variables: Sequence[Any], limit: int = 3) -> str:
    """The names of the first few, and how many more there are."""
    more = f" and {len(variables) - limit} more" if len(variables) > limit else ""
    return ", ".join(name(v) for v in variables[:limit]) + more
