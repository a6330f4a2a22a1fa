"""The numbers that a loop reports."""

from __future__ import annotations

import numbers
import sys
from typing import Any

import keras

from pykguard._errors import OptionTypeError, OptionValueError

REQUIREMENT = "a number or a tensor without dimensions"
OUTSIDE = REQUIREMENT + " that is known now: report it outside the compiled step"
NUMBERS = ("float", "bfloat", "int", "uint")


def check_scalar(name: str, value: Any) -> Any:
    """Accept a real number, or a tensor of one without dimensions, NaN and infinity included.

    Raises:
        OptionTypeError: It is something else, or a placeholder in a step that is being compiled.
        OptionValueError: It is an array with dimensions.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return value
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise OptionTypeError(name, REQUIREMENT, value)
    if is_placeholder(value):
        raise OptionTypeError(name, OUTSIDE, value)
    if tuple(value.shape):
        raise OptionValueError(name, REQUIREMENT, value)
    if not keras.backend.standardize_dtype(value.dtype).startswith(NUMBERS):
        raise OptionTypeError(name, REQUIREMENT, value)
    return value.detach() if hasattr(value, "detach") else value


def is_placeholder(value: Any) -> bool:
    tensorflow, jax = sys.modules.get("tensorflow"), sys.modules.get("jax")
    return (
        isinstance(value, keras.KerasTensor)
        or (tensorflow is not None and bool(tensorflow.is_symbolic_tensor(value)))
        or (jax is not None and isinstance(value, jax.core.Tracer))
    )
