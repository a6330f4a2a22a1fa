"""A probe: a small fixed data set on which the loss is measured with the weights as they stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np

from pykguard._errors import MonitorError, OptionTypeError, OptionValueError
from pykguard._framework import backend_of
from pykguard._random_state import untouched

REQUIREMENT = (
    "None or a tuple (x, y) or (x, y, sample_weight) of arrays with equally many rows, without NaN"
)


class Probe(NamedTuple):
    """Inputs, targets and, if any, one weight for each row."""

    x: Any
    y: Any
    sample_weight: Any = None

    def loss(self, model: Any) -> float:
        """The model's loss on the probe, regularisation included."""
        with self._refusing(model), untouched():
            results = model.evaluate(
                self.x, self.y, sample_weight=self.sample_weight, verbose=0, return_dict=True
            )
        if "loss" not in results:
            raise MonitorError(
                "`probe` needs a model whose `test_step` returns its loss; it returned "
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
            model(keras.tree.map_structure(_symbolic, self.x))

    @contextmanager
    def _refusing(self, model: Any) -> Iterator[None]:
        held = _values(model)
        try:
            yield
        except Exception as error:
            _give_back(held)
            requirement = f"data that the model can be evaluated on ({_first_line(error)})"
            raise OptionValueError("probe", requirement, _shapes(self)) from error


def _values(model: Any) -> list[tuple[Any, Any]]:
    """What the variables hold on JAX, where Keras empties them to evaluate, also if that fails."""
    if backend_of(model) != "jax":
        return []
    return [(v, v.value) for v in [*model.variables, *model.metrics_variables]]


def _give_back(held: list[tuple[Any, Any]]) -> None:
    for variable, value in held:
        if variable._value is None and not value.is_deleted():
            variable.assign(value)


def as_probe(value: Any) -> Probe | None:
    """Check the option `probe`.

    Raises:
        OptionTypeError: It is not a tuple or list of two or three parts, or a part is not numeric.
        OptionValueError: The parts do not have equally many rows, or have none, or hold a NaN,
            with which every epoch would be worse.
    """
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise OptionTypeError("probe", REQUIREMENT, value)
    probe = Probe(*(_as_arrays(part) for part in value))
    if probe.x is None:
        raise OptionTypeError("probe", REQUIREMENT, value)
    rows = {len(a) if np.ndim(a) else -1 for a in keras.tree.flatten(tuple(probe)) if a is not None}
    if len(rows) != 1 or rows & {-1, 0}:
        raise OptionValueError("probe", REQUIREMENT, _shapes(probe))
    for name, part in probe._asdict().items():
        if any(_has_nan(array) for array in keras.tree.flatten(part)):
            raise OptionValueError("probe", REQUIREMENT, _Words(f"NaN in {name}"))
    return probe


def _as_arrays(part: Any) -> Any:
    def as_array(leaf: Any) -> Any:
        try:
            is_tensor = keras.ops.is_tensor(leaf)
            array = keras.ops.convert_to_numpy(leaf) if is_tensor else np.asarray(leaf)
        except ValueError:  # rows of different lengths
            raise OptionTypeError("probe", REQUIREMENT, leaf) from None
        if array.dtype.kind not in "biufSU":
            raise OptionTypeError("probe", REQUIREMENT, leaf)
        return array

    if part is None:
        return None
    if isinstance(part, list) and not any(hasattr(item, "shape") for item in part):
        return as_array(part)  # numbers, or rows of them; a list of arrays is several inputs
    return keras.tree.map_structure(as_array, part)


class _Words(str):
    """Words that stand for a value in a message, where a string would be quoted."""

    __repr__ = str.__str__


def _shapes(probe: Probe) -> _Words:
    parts = tuple(probe if probe.sample_weight is not None else probe[:2])
    return _Words(f"arrays of shapes {keras.tree.map_structure(np.shape, parts)}")


def _has_nan(array: Any) -> bool:
    return array is not None and array.dtype.kind == "f" and bool(np.isnan(array).any())


def _symbolic(array: Any) -> Any:
    return keras.KerasTensor(array.shape, keras.backend.standardize_dtype(array.dtype))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
