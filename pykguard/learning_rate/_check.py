"""Whether something can be a learning rate."""

from __future__ import annotations

import inspect
import numbers
from typing import Any

import keras
import numpy as np

from pykguard import _checks
from pykguard._errors import OptionTypeError, OptionValueError
from pykguard._framework import to_numpy
from pykguard.learning_rate._schedule import is_schedule_like, schedule_class

ARGUMENT = "learning_rate"


def check_kind(rate: Any, *, of_epoch: bool = False) -> Any:
    """Check a rate before it is known for which optimizer it is; a number comes back as a float.

    Args:
        rate: What the user gave.
        of_epoch: Whether a function of one argument will do.

    Raises:
        OptionTypeError, OptionValueError: It cannot be used.
    """
    if isinstance(rate, numbers.Real) and not isinstance(rate, bool):
        return _checks.number(ARGUMENT, rate, above=0)
    is_value = isinstance(rate, (np.ndarray, keras.Variable, type))
    takes_it = is_schedule_like(rate) or takes_nothing(rate) or (of_epoch and takes_one(rate))
    if is_value or not takes_it:
        requirement = "a number above 0, a learning-rate schedule or a function without arguments"
        requirement += " or of the epoch" if of_epoch else ""
        raise OptionTypeError(ARGUMENT, requirement, rate)
    return rate


def check_rate(rate: Any, is_legacy: bool, step: int) -> Any:
    """Check a rate for an optimizer; a number comes back as a float.

    Args:
        rate: What the user gave.
        is_legacy: Whether the optimizer is of tf_keras.
        step: Where a schedule is tried.

    Raises:
        OptionTypeError, OptionValueError: It cannot be used.
    """
    rate = check_kind(rate)
    if not callable(rate):
        return rate
    is_schedule = isinstance(rate, schedule_class(is_legacy))
    if is_schedule_like(rate) and not is_schedule:
        library = "tf_keras" if is_legacy else "keras"
        raise OptionTypeError(ARGUMENT, f"a schedule of {library}, whose the optimizer is", rate)
    value = rate(_step(step, is_legacy)) if is_schedule else rate()
    if not _is_rate(value):
        when = f" at step {step}" if is_schedule else ""
        requirement = f"one that gives a finite number of at least 0{when}"
        raise OptionValueError(ARGUMENT, requirement, value)
    return rate


def takes_nothing(function: Any) -> bool:
    """Whether something can be called without arguments, as far as one can see."""
    return _takes(function)


def takes_one(function: Any) -> bool:
    """Whether something can be called with one argument, as far as one can see."""
    return _takes(function, None)


def _takes(function: Any, *arguments: Any) -> bool:
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # it does not say
        return True
    return True


def _step(step: int, is_legacy: bool) -> Any:
    if not is_legacy:
        return keras.ops.convert_to_tensor(step, dtype="int32")
    import tensorflow as tf

    return tf.constant(step, "int64")


def _is_rate(value: Any) -> bool:
    number = _as_number(value)
    is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
    return is_number and bool(np.isfinite(number)) and bool(number >= 0)


def _as_number(value: Any) -> Any:
    """A tensor as a number or an array; other things as they are."""
    if not hasattr(value, "shape"):
        return value
    array = to_numpy(value)
    return array.astype("float64").item() if array.shape == () else array
