"""The training state as arrays, for steps on JAX that take it and give it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pykguard._errors import OptionTypeError, OptionValueError
from pykguard.loop._scalars import is_placeholder

REQUIREMENT = (
    "what `state()` returned, with new arrays in it: (trainable variables, non-trainable "
    "variables, optimizer variables), in a list of these where there are several models"
)


class ModelState(NamedTuple):
    """The arrays of one model and its optimizer, in the order of their lists of variables."""

    trainable_variables: list[Any]
    non_trainable_variables: list[Any]
    optimizer_variables: list[Any]


def variables_of(model: Any, optimizer: Any) -> ModelState:
    """The variables in the places of their arrays."""
    return ModelState(
        list(model.trainable_variables),
        list(model.non_trainable_variables),
        list(optimizer.variables),
    )


def read(variables: ModelState) -> ModelState:
    """Their arrays."""
    return ModelState(*([variable.value for variable in part] for part in variables))


def write(variables: Sequence[ModelState], state: Any) -> None:
    """Assign arrays to the variables, all of them or, where one does not fit, none.

    Raises:
        OptionTypeError, OptionValueError: The arrays are not as many, or not of the shapes, that
            the variables have, or are placeholders in a step that is being compiled.
    """
    given = [state] if len(variables) == 1 else state
    if not isinstance(given, (list, tuple)) or not all(_is_parts(each) for each in given):
        raise OptionTypeError("state", REQUIREMENT, state)
    flat = [variable for parts in variables for part in parts for variable in part]
    values = [value for parts in given for part in parts for value in part]
    wanted = [[len(part) for part in parts] for parts in variables]
    if wanted != [[len(part) for part in parts] for parts in given] or any(
        tuple(variable.shape) != np.shape(value)
        for variable, value in zip(flat, values, strict=True)
    ):
        raise OptionValueError("state", REQUIREMENT, state)
    if any(map(is_placeholder, values)):
        raise OptionTypeError("state", "known now: report it outside the compiled step", state)
    for variable, value in zip(flat, values, strict=True):
        variable.assign(value)


def _is_parts(thing: Any) -> bool:
    is_parts = isinstance(thing, (list, tuple)) and len(thing) == len(ModelState._fields)
    return is_parts and all(isinstance(part, (list, tuple)) for part in thing)
