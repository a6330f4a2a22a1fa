"""What every backend's snapshots can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from pykguard import _random_state
from pykguard._errors import SnapshotError
from pykguard._framework import to_numpy
from pykguard._optimizers import new_values, optimizers, variables_of
from pykguard._warnings import warn
from pykguard.snapshots._state import metrics_state, training_state


class Part(NamedTuple):
    """What a variable keeps on one device; most variables have one part, mirrored ones several."""

    handle: Any  # as the backend reads and writes it
    variable: Any


class Snapshot:
    """A copy of a training state.

    Attributes:
        parts: What it is a copy of, matched by the identity of the handles.
        copies: The copies, in the same order, as the backend keeps them.
        random: The global random states, if they were asked for.
    """

    def __init__(self, parts: Sequence[Part], copies: Sequence[Any], random: Any = None) -> None:
        self.parts = tuple(parts)
        self.copies = tuple(copies)
        self.random = random

    def is_of(self, parts: Sequence[Part]) -> bool:
        """Whether it is a copy of exactly these parts, in this order."""
        return len(parts) == len(self.parts) and all(
            a.handle is b.handle for a, b in zip(parts, self.parts, strict=True)
        )


class Look(NamedTuple):
    """What was seen of a training state."""

    broken: list[str]  # names of variables that are not finite
    taken: Snapshot | None  # the state itself, if the backend takes it in passing


class Snapshots(ABC):
    """Takes copies of a model's training state and puts them back.

    A backend says how a state is read, copied and written; when that happens is the same for all.
    The variables are looked up anew at each copy, so that an optimizer which is built late, or
    whose variable list changes, is covered.

    Args:
        model: A compiled model.
        optimizer: Whether the optimizers' variables belong to the state.
        metrics: Whether the metrics' variables do.
        random: Whether the global random states of Python, NumPy and PyTorch do.
    """

    def __init__(
        self, model: Any, *, optimizer: bool, metrics: bool = False, random: bool = False
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._metrics = metrics
        self._random = random
        self._not_judged: set[int] = set()
        self.alone = False  # whether to decide without the other processes, as after an error

    def variables(self) -> list[Any]:
        """The variables of the training state as they are now."""
        return training_state(self._model, optimizer=self._optimizer, metrics=self._metrics)

    def take(self, into: Snapshot | None = None) -> Snapshot:
        """Copy the training state.

        Args:
            into: A snapshot that is no longer needed; its memory is used again where it fits.
        """
        parts = self._parts(self.variables())
        copies = self._copy(parts, into if into is not None and into.is_of(parts) else None)
        return self._snapshot(parts, copies)

    def can_be_filled(self, snapshot: Snapshot) -> bool:
        """Whether `take()` may use the snapshot's memory again."""
        return False

    def restore(self, snapshot: Snapshot) -> None:
        """Put a copied state back into the model: all of it, or nothing if that cannot be done.

        Variables of an optimizer that did not exist then are given the values of a new optimizer,
        and metrics that did not are started anew.

        Raises:
            SnapshotError: A variable has another shape than it had.
        """
        parts, values = list(snapshot.parts), list(snapshot.copies)
        changed = [p for p, v in zip(parts, values, strict=True) if self._shape(p) != _shape(v)]
        if changed:
            raise SnapshotError(
                f"these variables have another shape than when the state was kept: {names(changed)}"
            )
        known = {id(part.handle) for part in parts}
        newer = [p for p in self._parts(self.variables()) if id(p.handle) not in known]
        unknown = []
        if newer:
            renewed = self._values_when_new()
            for part in newer:
                if id(part.variable) in renewed:
                    parts.append(part)
                    values.append(self._value_of(renewed[id(part.variable)]))
                else:
                    unknown.append(part)
        self._write(parts, values)
        if snapshot.random is not None:
            _random_state.write(snapshot.random)
        if self._metrics and unknown:
            unknown = self._start_metrics_anew(unknown)
        if unknown:
            warn(
                "these variables did not exist when the state was kept, so they were left as "
                f"they are: {names(unknown)}"
            )

    def sample(self, variables: Sequence[Any], n: Sequence[int]) -> list[np.ndarray[Any, Any]]:
        """Some of what variables hold now, on the host; of mirrored ones, the first replica's.

        Returns:
            Of each variable, as a matrix whose columns are the places of its last axis, at most so
            many columns, evenly spread.
        """
        samples = []
        for variable, n_columns in zip(variables, n, strict=True):
            matrix = self._matrix(self._parts([variable])[0])
            some = matrix[:, :: -(-int(matrix.shape[1]) // n_columns) or 1]
            samples.append(np.array(some if isinstance(some, np.ndarray) else to_numpy(some)))
        return samples

    def accept_infinite(self) -> list[str]:
        """Do not judge variables that are infinite now: some models hold masks of -inf.

        Returns:
            The names of those that hold a NaN, which are judged.
        """
        broken = self._non_finite(self._parts(self.variables()))
        copies = self._copy(broken, None) if broken else []
        with_nan = [p for p, c in zip(broken, copies, strict=True) if np.isnan(to_numpy(c)).any()]
        judged = {id(part.variable) for part in with_nan}
        self._not_judged = {id(part.variable) for part in broken} - judged
        return _each_name(with_nan)

    def non_finite(self) -> list[str]:
        """Names of the variables that hold a NaN or an infinity."""
        parts = self._judged(self._parts(self.variables()))
        return self._agreed(_each_name(self._non_finite(parts)))

    def look(self) -> Look:
        """The names of variables that are not finite, and a snapshot where that costs nothing.

        Where looking at all of them would take long, the larger ones are left to `check_rest()`.
        """
        return Look(self.non_finite(), None)

    def check_rest(
        self, snapshot: Snapshot, if_good: Callable[[], None]
    ) -> Callable[[], list[str]] | None:
        """Begin to check what `look()` has left, in a snapshot that was taken at the same time.

        Args:
            snapshot: What `look()` took.
            if_good: Called as soon as it is known to be good, maybe on another thread.

        Returns:
            None if it left nothing; or a function that waits for the result, and returns the names
            of the variables that hold a NaN or an infinity.
        """
        return None

    def to_arrays(self, snapshot: Snapshot) -> list[np.ndarray[Any, Any]]:
        """The snapshot as NumPy arrays on the host, in the order of its parts."""
        return [np.array(to_numpy(copy)) for copy in snapshot.copies]

    def from_arrays(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Snapshot:
        """A snapshot of this model with the given contents.

        Raises:
            SnapshotError: The arrays are not as many, or not of the shapes, that the model has.
        """
        parts = self._parts(self.variables())
        wanted = [self._shape(part) for part in parts]
        given = [tuple(np.shape(a)) for a in arrays]
        if wanted != given:
            raise SnapshotError(
                f"the saved state has {len(given)} arrays and the model {len(wanted)} variables, "
                "or their shapes differ: it belongs to another model or optimizer"
            )
        return Snapshot(parts, [self._load(p, a) for p, a in zip(parts, arrays, strict=True)])

    def _snapshot(self, parts: Sequence[Part], copies: Sequence[Any]) -> Snapshot:
        return Snapshot(parts, copies, _random_state.read() if self._random else None)

    def _judged(self, parts: Sequence[Part]) -> list[Part]:
        spared = set(self._not_judged)
        if self._metrics:  # a metric may well be infinite
            spared.update(id(variable) for variable in metrics_state(self._model))
        return [part for part in parts if id(part.variable) not in spared]

    def _start_metrics_anew(self, parts: Sequence[Part]) -> list[Part]:
        """Start the metrics anew that these belong to; returns those that belong to none."""
        left = {id(part.variable) for part in parts}
        for metric in self._model.metrics:
            owned = {id(variable) for variable in metric.variables}
            if owned & left:
                metric.reset_state()
                left -= owned
        return [part for part in parts if id(part.variable) in left]

    def _values_when_new(self) -> dict[int, Any]:
        """By the identity of an optimizer's variable, a variable with the value it began with."""
        renewed: dict[int, Any] = {}
        for optimizer in optimizers(self._model):
            if not variables_of(optimizer):
                continue
            try:
                pairs = new_values(optimizer, list(self._model.trainable_variables))
            except Exception:  # an optimizer of the user's own that cannot be made from its config
                continue
            renewed.update((id(variable), new) for variable, new in pairs)
        return renewed

    def _value_of(self, variable: Any) -> Any:
        return self._copy(self._parts([variable])[:1], None)[0]

    def _agreed(self, broken: list[str]) -> list[str]:
        """What all processes that train this model together found; they then decide alike."""
        return broken

    @abstractmethod
    def _parts(self, variables: Sequence[Any]) -> list[Part]:
        """What the variables keep on each device."""

    @abstractmethod
    def _copy(self, parts: Sequence[Part], into: Snapshot | None) -> Sequence[Any]:
        """Copy the parts, if given with the memory of a snapshot of the same parts."""

    @abstractmethod
    def _write(self, parts: Sequence[Part], values: Sequence[Any]) -> None:
        """Write copies into the parts, all or none, such that training on leaves the copies."""

    @abstractmethod
    def _non_finite(self, parts: Sequence[Part]) -> list[Part]:
        """Those that hold a NaN or an infinity."""

    @abstractmethod
    def _matrix(self, part: Part) -> Any:
        """What the part holds for the moment, all axes but the last as one.

        It is no copy where that can be.
        """

    @abstractmethod
    def _load(self, part: Part, array: np.ndarray[Any, Any]) -> Any:
        """A copy, where the part is, with the contents of an array."""

    def _shape(self, part: Part) -> tuple[int, ...]:
        return _shape(part.handle)


def name(variable: Any) -> str:
    """The variable's path in its model."""
    # Not by `getattr(…, None)`: a variable of several workers would be read on all of them for it.
    return str(variable.path if isinstance(variable, keras.Variable) else variable.name)


def names(parts: Sequence[Part], limit: int = 3) -> str:
    """The names of the first few variables, and how many more there are."""
    every = _each_name(parts)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def _each_name(parts: Sequence[Part]) -> list[str]:
    return list(dict.fromkeys(name(part.variable) for part in parts))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape)
