"""The learning rate that each step really uses, which is not always the one an optimizer shows.

A compiled step goes on with the schedule that it was traced with. So the rate is taken where the
step is traced or run, beside the loss, and not asked of the optimizer between two steps.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from pykguard._framework import backend_of, is_legacy, library_of, to_numpy
from pykguard._optimizers import innermost, optimizers
from pykguard.learning_rate import as_given, is_schedule, read_learning_rate


class StepRate:
    """The learning rate of a model's only optimizer, as its step sees it.

    Attributes:
        traced: What the optimizer held when the step was last traced or run: a variable, a schedule
            or a callable; None where the model has no optimizer or several.
    """

    def __init__(self, model: Any) -> None:
        self.traced: Any = None
        self.attach(model)

    def attach(self, model: Any) -> None:
        """Watch the model's optimizer, which compiling it again may have changed."""
        self._backend = backend_of(model)
        self._schedules = library_of(model).optimizers.schedules.LearningRateSchedule
        self._is_legacy = is_legacy(model)
        held = [model.optimizer] if self._backend == "jax" else optimizers(model)
        only = innermost(held[0]) if len(held) == 1 else None
        self._optimizer: Callable[[], Any] = _nothing if only is None else weakref.ref(only)

    @property
    def optimizer(self) -> Any:
        """The optimizer, or None."""
        return self._optimizer()

    def in_step(self) -> Any:
        """The rate as a tensor or a number, called in the step; NaN where it is not at hand."""
        optimizer = self.optimizer
        self.traced = None if optimizer is None else as_given(optimizer)
        if self.traced is None:
            return math.nan
        if isinstance(self.traced, self._schedules) and self._is_legacy:
            return self.traced(optimizer.iterations)  # the property shows the last step's
        if callable(self.traced) and not isinstance(self.traced, self._schedules):
            return self.traced()
        if self._backend == "jax":
            return math.nan  # the step gets the optimizer's variables after the loss was added up
        if callable(self.traced):
            return optimizer.learning_rate
        # PyTorch's variables are changed in place later.
        return self.traced.value.clone() if self._backend == "torch" else optimizer.learning_rate


class HostRate:
    """The rate of steps in which it is not at hand, from what the step left behind.

    That is JAX, and models with several optimizers, of which it is the first that has taken a step.
    """

    def __init__(self, model: Any, rate: StepRate) -> None:
        self._model = model
        self._rate = rate
        self._places: dict[int, int] = {}
        self._mapped: tuple[Any, Any] = (None, None)

    def after_step(self) -> float:
        """The rate of the step that was just taken; NaN where it is known otherwise."""
        if self._rate.optimizer is None:
            rate = read_learning_rate(self._model)
            return math.nan if rate is None else rate
        if self._rate.traced is None or callable(self._rate.traced):
            return math.nan
        return float(self._left_behind(self._rate.traced))

    def of_last(self, n: int) -> np.ndarray[Any, Any] | None:
        """The rates of the last `n` steps by the schedule that was traced; None without one."""
        schedule = self._rate.traced
        if not is_schedule(schedule):
            return None
        import jax

        if self._mapped[0] is not schedule:
            self._mapped = schedule, jax.jit(lambda steps: jax.lax.map(schedule, steps))
        taken = int(self._left_behind(self._rate.optimizer._iterations))
        steps = np.resize(np.arange(taken - n, taken), 256 * -(-n // 256))  # one shape to compile
        return np.asarray(self._mapped[1](steps.astype("int32")))[:n]

    def _left_behind(self, variable: Any) -> Any:
        """An optimizer variable's value when the last step ended, whatever it was set to since."""
        state = getattr(self._model, "_jax_state", None) or {}
        values = state.get("optimizer_variables")
        if values is None:
            return to_numpy(variable)
        place = self._places.get(id(variable), -1)
        if place < 0:
            variables = self._model.optimizer.variables
            place = next((i for i, each in enumerate(variables) if each is variable), -1)
            self._places[id(variable)] = place
        return to_numpy(variable) if place < 0 else np.asarray(values[place])


def needs_host(rate: StepRate, model: Any) -> bool:
    """Whether the step itself cannot tell its rate."""
    return rate.optimizer is None or backend_of(model) == "jax"


def _nothing() -> None:
    return None
