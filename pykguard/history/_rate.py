"""The learning rate that each step really uses, which is not always the one an optimizer shows.

A compiled step goes on with the schedule that it was traced with. So the rate is taken where the
step is traced or run, beside the loss, and not asked of the optimizer between two steps.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from pykguard._framework import backend_of, is_legacy, library_of, to_numpy
from pykguard._optimizers import each_once, innermost, optimizers
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
        """The rate as a tensor or a number, called in the step; NaN where it is not at hand.

        That is so with a callable, which may do more than give a number: it is not called twice.
        """
        optimizer = self.optimizer
        if self._backend == "jax" and _is_evaluating():
            return math.nan
        self.traced = None if optimizer is None else as_given(optimizer)
        if self.traced is None or self._backend == "jax":
            return math.nan  # on JAX the step gets the optimizer's variables afterwards
        if hasattr(optimizer, "_decayed_lr"):  # an optimizer of tf_keras' older kind
            return optimizer._decayed_lr("float32")
        scheduled = isinstance(self.traced, self._schedules)
        if scheduled and self._is_legacy:
            return self.traced(optimizer.iterations)  # the property shows the last step's
        if callable(self.traced) and not scheduled:
            return math.nan
        if scheduled:
            return optimizer.learning_rate
        # PyTorch's variables are changed in place later.
        return self.traced.value.clone() if self._backend == "torch" else optimizer.learning_rate


def rate_of(model: Any) -> StepRate:
    """The rates of a model's steps; a model that stands for a loop has its own."""
    rate: StepRate | None = getattr(model, "step_rate", None)
    if rate is None:
        return StepRate(model)
    rate.attach(model)
    return rate


class HostRate:
    """The rate of steps in which it is not at hand, from what the step left behind.

    That is JAX, and models with several optimizers, of which it is the first that has taken a step.
    """

    def __init__(self, model: Any, rate: StepRate) -> None:
        self._model = model
        self._rate = rate
        self._places: dict[int, int] = {}
        self._mapped: tuple[Any, Any] = (None, None)
        self._traced: list[Any] = []  # with which each step was taken, until `of_last` is asked

    def after_steps(self, n: int) -> float:
        """The rate of `n` steps that were just taken; NaN where it is known otherwise, or not."""
        if self._rate.optimizer is None:
            rate = read_learning_rate(self._model)
            return math.nan if rate is None else rate
        self._traced += [self._rate.traced] * n
        if self._rate.traced is None or callable(self._rate.traced):
            return math.nan
        return float(self._left_behind(self._rate.traced))

    def of_last(self, n: int) -> np.ndarray[Any, Any] | None:
        """The rates of the last `n` steps by the schedules that were traced; None without one."""
        traced, self._traced = self._traced[:n], self._traced[n:]
        if not any(map(is_schedule, traced)):
            return None
        taken = int(self._left_behind(self._rate.optimizer._iterations)) - len(self._traced)
        steps, rates = np.arange(taken - n, taken), np.full(n, math.nan)
        for schedule in each_once(each for each in traced if is_schedule(each)):
            its = np.array([each is schedule for each in traced])
            rates[its] = self._by(schedule, steps)[its]
        return rates

    def _by(self, schedule: Any, steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A schedule's rates, compiled for one number of steps."""
        import jax

        if self._mapped[0] is not schedule:
            self._mapped = schedule, jax.jit(lambda steps: jax.lax.map(schedule, steps))
        padded = np.resize(steps, 256 * -(-len(steps) // 256))
        return np.asarray(self._mapped[1](padded.astype("int32")))[: len(steps)]

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


def _is_evaluating() -> bool:
    """Whether the step that is being traced is that of `evaluate()`."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in ("test_step", "train_step"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "test_step"
