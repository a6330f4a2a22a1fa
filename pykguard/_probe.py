"""A probe: a small fixed data set on which the loss is measured with the weights as they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np

from pykguard._errors import MonitorError, OptionTypeError, OptionValueError
from pykguard._framework import backend_of
from pykguard._random_state import untouched

REQUIREMENT = "None or a tuple (x, y) or (x, y, sample_weight) of arrays with equally many rows"


class Data(NamedTuple):
    """Inputs, targets and, if any, one weight for each row."""

    x: Any
    y: Any
    sample_weight: Any = None


@dataclasses.dataclass(frozen=True)
class Probe:
    """Data on which a model is measured.

    Attributes:
        data: The data.
        option: The option that they were given by.
    """

    data: Data
    option: str = "probe"

    def loss(self, model: Any, batch_size: int | None = None) -> float:
        """The model's loss on the probe, regularisation included."""
        x, y, sample_weight = self.data
        with self._refusing(model), untouched():
            results = model.evaluate(
                x,
                y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                verbose=0,
                return_dict=True,
            )
        if "loss" not in results:
            raise MonitorError(
                f"`{self.option}` needs a model whose `test_step` returns its loss; it returned "
                + (", ".join(results) or "nothing")
            )
        return float(results["loss"])

    def check_fits(self, model: Any) -> None:
        """Raise unless the model can be evaluated on the probe; before a fit's first step.

        Raises:
            OptionValueError: It cannot.
        """
        self.loss(model)
        model.reset_metrics()

    def check_inputs(self, model: Any) -> None:
        """Raise unless the model takes the probe's inputs; leaves the metrics as they are.

        Raises:
            OptionValueError: It does not.
        """
        with self._refusing(model):
            model(keras.tree.map_structure(_symbolic, self.data.x))

    @contextmanager
    def _refusing(self, model: Any) -> Iterator[None]:
        held = _values(model)
        try:
            yield
        except Exception as error:
            _give_back(held)
            requirement = f"data that the model can be evaluated on ({_first_line(error)})"
            raise OptionValueError(self.option, requirement, _shapes(self.data)) from error


def _values(model: Any) -> list[tuple[Any, Any]]:
    """What the variables hold on JAX, where Keras empties them to evaluate, also if that fails."""
    if backend_of(model) != "jax":
        return []
    return [(v, v.value) for v in [*model.variables, *model.metrics_variables]]


def _give_back(held: list[tuple[Any, Any]]) -> None:
    for variable, value in held:
        if variable._value is None and not value.is_deleted():
            variable.assign(value)


def as_probe(value: Any, option: str = "probe", *, may_hold_nan: bool = False) -> Probe | None:
    """Check an option that is a fixed data set, or None.

    Raises:
        OptionTypeError: It is not a tuple or list of two or three parts, or a part is not numeric.
        OptionValueError: The parts do not have equally many rows, or have none, or hold a NaN where
            they may not: with one in its probe a guard finds every epoch worse.
    """
    requirement = REQUIREMENT if may_hold_nan else REQUIREMENT + ", without NaN"
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise OptionTypeError(option, requirement, value)
    try:
        data = Data(*(_as_arrays(part) for part in value))
    except _NotNumericError as error:
        raise OptionTypeError(option, requirement, error.part) from None
    if data.x is None:
        raise OptionTypeError(option, requirement, value)
    rows = {len(a) if np.ndim(a) else -1 for a in keras.tree.flatten(tuple(data)) if a is not None}
    if len(rows) != 1 or rows & {-1, 0}:
        raise OptionValueError(option, requirement, _shapes(data))
    for name, part in data._asdict().items():
        if not may_hold_nan and any(_has_nan(array) for array in keras.tree.flatten(part)):
            raise OptionValueError(option, requirement, _Words(f"NaN in {name}"))
    return Probe(data, option)


class _NotNumericError(Exception):
    """A part of the data is not numeric."""

    def __init__(self, part: Any) -> None:
        super().__init__(part)
        self.part = part


def _as_arrays(part: Any) -> Any:
    def as_array(leaf: Any) -> Any:
        try:
            is_tensor = keras.ops.is_tensor(leaf)
            array = keras.ops.convert_to_numpy(leaf) if is_tensor else np.asarray(leaf)
        except ValueError:  # rows of different lengths
            raise _NotNumericError(leaf) from None
        if array.dtype.kind not in "biufSU":
            raise _NotNumericError(leaf)
        return array

    if part is None:
        return None
    if isinstance(part, list) and not any(hasattr(item, "shape") for item in part):
        return as_array(part)  # numbers, or rows of them; a list of arrays is several inputs
    return keras.tree.map_structure(as_array, part)


class _Words(str):
    """Words that stand for a value in a message, where a string would be quoted."""

    __repr__ = str.__str__


def _shapes(data: Data) -> _Words:
    parts = tuple(data if data.sample_weight is not None else data[:2])
    return _Words(f"arrays of shapes {keras.tree.map_structure(np.shape, parts)}")


def _has_nan(array: Any) -> bool:
    return array is not None and array.dtype.kind == "f" and bool(np.isnan(array).any())


def _symbolic(array: Any) -> Any:
    return keras.KerasTensor(array.shape, keras.backend.standardize_dtype(array.dtype))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
