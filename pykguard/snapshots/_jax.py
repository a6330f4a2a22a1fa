"""Snapshots on JAX: copies of the arrays, with their sharding.

`fit` gives its arrays away at each step, so a reference to one is dead after the next; and an
array that is assigned is the variable's, not a copy. So arrays are copied there and back, and no
two variables ever share one. A snapshot is filled in the memory of the one whose place it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from pykguard._errors import SnapshotError
from pykguard._optimizers import innermost, new_values, optimizers
from pykguard.snapshots._base import Part
from pykguard.snapshots._copying import CopyingSnapshots


class JaxSnapshots(CopyingSnapshots):
    """Keeps training states in arrays on the devices of the model's, sharded alike."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rates: dict[int, float] = {}
        self._separate()

    def variables(self) -> list[Any]:
        """The variables of the training state as they are now, also within an epoch."""
        self._model.jax_state_sync()
        return super().variables()

    def sample(self, variables: Sequence[Any], n: Sequence[int]) -> list[np.ndarray[Any, Any]]:
        """Some of what variables hold now, also within an epoch; see the base class."""
        self._model.jax_state_sync()
        return super().sample(variables, n)

    def _parts(self, variables: Sequence[Any]) -> list[Part]:
        return [Part(variable, variable) for variable in variables]

    def _duplicate(self, parts: Sequence[Part]) -> Sequence[Any]:
        self._note_rates()
        return [jnp.copy(part.variable.value) for part in parts]

    def _refill(self, parts: Sequence[Part], copies: Sequence[Any]) -> Sequence[Any]:
        self._note_rates()
        return _copied([part.variable.value for part in parts], over=copies)

    def _equal(self, parts: Sequence[Part], copies: Sequence[Any]) -> list[bool]:
        values = [part.variable.value for part in parts]
        flags: list[bool] = [False] * len(values)
        for places in _by_devices(values):
            found = _are_equal([values[i] for i in places], [copies[i] for i in places])
            for i, flag in zip(places, found, strict=True):
                flags[i] = bool(flag)
        return flags

    def _write(self, parts: Sequence[Part], values: Sequence[Any]) -> None:
        if not all(isinstance(value, jax.Array) and not value.is_deleted() for value in values):
            raise SnapshotError("the kept state is not there any more")
        held, self._model._jax_state = getattr(self._model, "_jax_state", None), None
        try:
            _assign_copies(parts, values)
        except BaseException:  # Ctrl-C: go on to the end
            _assign_copies(parts, values)
            raise
        finally:
            self._give_to_fit(held)
        self._revive()

    def _give_to_fit(self, held: dict[str, Any] | None) -> None:
        """Let `fit`, which keeps the state itself within an epoch, have what was written."""
        if held is not None:
            self._model._jax_state = {
                kind: self._values_of(kind) if there is not None else None
                for kind, there in held.items()
            }

    def _values_of(self, kind: str) -> list[Any]:
        owner, name = self._model, kind
        if kind == "optimizer_variables":
            owner, name = self._model.optimizer, "variables"
        return [variable.value for variable in getattr(owner, name)]

    def _revive(self) -> None:
        """Give values to what is dead and not in the snapshot.

        A step that is interrupted has given all arrays away and put none in their place.
        """
        for optimizer in optimizers(self._model):
            if not any(_is_dead(variable) for variable in optimizer.variables):
                continue
            rate = innermost(optimizer)._learning_rate
            if isinstance(rate, keras.Variable) and _is_dead(rate):
                rate.assign(self._rates[id(rate)])
            for variable, new in new_values(optimizer, self._model.trainable_variables):
                if _is_dead(variable):
                    variable.assign(new.value)
        if any(_is_dead(variable) for variable in self._model.metrics_variables):
            self._model.reset_metrics()

    def _note_rates(self) -> None:
        for optimizer in optimizers(self._model):
            rate = innermost(optimizer)._learning_rate
            if isinstance(rate, keras.Variable):
                self._rates[id(rate)] = float(rate.value)

    def _non_finite(self, parts: Sequence[Part]) -> list[Part]:
        dead = [part for part in parts if _is_dead(part.variable)]
        if dead:
            return dead
        floating = [p for p in parts if jnp.issubdtype(p.variable.value.dtype, jnp.inexact)]
        values = [part.variable.value for part in floating]
        suspects: list[int] = []
        for places in _by_devices(values):
            finite = np.asarray(_have_finite_sums([values[i] for i in places]))
            suspects.extend(i for i, flag in zip(places, finite, strict=True) if not flag)
        return [floating[i] for i in sorted(suspects) if not bool(jnp.isfinite(values[i]).all())]

    def _matrix(self, part: Part) -> Any:
        value = np.asarray(part.variable.value)
        return value.reshape(-1, value.shape[-1])

    def _load(self, part: Part, array: np.ndarray[Any, Any]) -> Any:
        like = part.variable.value
        return jnp.copy(jax.device_put(jnp.asarray(array, like.dtype), like.sharding))

    def _separate(self) -> None:
        """Let no two variables share an array, as they do after `use_ema` has ended a `fit`.

        Keras' next `fit` would give the array away twice, which JAX refuses.
        """
        seen: set[int] = set()
        for variable in self.variables():
            if id(variable.value) in seen:
                variable.assign(jnp.copy(variable.value))
            seen.add(id(variable.value))


def _assign_copies(parts: Sequence[Part], values: Sequence[Any]) -> None:
    for part, value in zip(parts, values, strict=True):
        part.variable.assign(jnp.copy(value))


def _is_dead(variable: Any) -> bool:
    """Whether the array was given away to a step that put none in its place."""
    return variable._value is None or variable._value.is_deleted()


def _copied(values: Sequence[Any], *, over: Sequence[Any]) -> list[Any]:
    """Copies of the arrays in the memory of others, which are given away."""
    copies: list[Any] = [None] * len(values)
    for places in _by_devices(values):
        chosen = [values[i] for i in places]
        copier = _copier(tuple(map(_sharding_to_keep, chosen)))
        for i, copy in zip(places, copier([over[i] for i in places], chosen), strict=True):
            copies[i] = copy
    return copies


def _by_devices(values: Sequence[Any]) -> Iterator[list[int]]:
    """Places of the arrays that live on the same devices, as one computation needs them."""
    groups: dict[Any, list[int]] = {}
    for i, value in enumerate(values):
        groups.setdefault(frozenset(value.sharding.device_set), []).append(i)
    yield from groups.values()


def _sharding_to_keep(value: Any) -> Any:
    """None on one device, where to insist on it would have the next step compiled anew."""
    return value.sharding if len(value.sharding.device_set) > 1 else None


_copiers: dict[tuple[Any, ...], Callable[..., list[Any]]] = {}


def _copier(shardings: tuple[Any, ...]) -> Callable[..., list[Any]]:
    if shardings not in _copiers:
        jit = partial(jax.jit, donate_argnums=0, keep_unused=True, out_shardings=list(shardings))
        _copiers[shardings] = jit(lambda over, values: [jnp.copy(value) for value in values])
    return _copiers[shardings]


@jax.jit
def _have_finite_sums(values: Sequence[Any]) -> Any:
    """A sum is finite only if every term is, and adding up is the fastest way to read an array.

    It may overflow where no term does, so arrays without a finite sum must be looked at closely.
    """
    return jnp.stack([jnp.isfinite(jnp.sum(value)) for value in values])


@jax.jit
def _are_equal(values: Sequence[Any], copies: Sequence[Any]) -> Any:
    return jnp.stack([(v == c).all() for v, c in zip(values, copies, strict=True)])
