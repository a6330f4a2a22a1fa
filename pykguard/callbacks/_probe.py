"""A probe: a small fixed data set on which the loss is measured with the weights as they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from pykguard._errors import OptionTypeError, OptionValueError

REQUIREMENT = "None or a tuple (x, y) or (x, y, sample_weight) of arrays with equally many rows"


class Probe(NamedTuple):
    """Inputs, targets and, if any, one weight for each row."""

    x: Any
    y: Any
    sample_weight: Any = None

    def loss(self, model: Any) -> float:
        """The model's loss on the probe, regularisation included."""
        results = model.evaluate(
            self.x, self.y, sample_weight=self.sample_weight, verbose=0, return_dict=True
        )
        return float(results["loss"])

    def check_fits(self, model: Any) -> None:
        """Raise unless the model takes the probe.

        Raises:
            OptionValueError: The model cannot be evaluated on the probe.
        """
        try:
            self.loss(model)
        except Exception as error:
            requirement = f"data that the model can be evaluated on ({_first_line(error)})"
            raise OptionValueError("probe", requirement, _Shapes(self)) from error
        finally:
            model.reset_metrics()


def as_probe(value: Any) -> Probe | None:
    """Check the option `probe`.

    Raises:
        OptionTypeError: It is not a tuple or list of two or three parts, or a part is not numeric.
        OptionValueError: The parts do not have equally many rows, or have none.
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
        raise OptionValueError("probe", REQUIREMENT, _Shapes(probe))
    return probe


def _as_arrays(part: Any) -> Any:
    def as_array(leaf: Any) -> Any:
        array = keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else np.asarray(leaf)
        if array.dtype.kind not in "biufSU":
            raise OptionTypeError("probe", REQUIREMENT, leaf)
        return array

    if part is None:
        return None
    if isinstance(part, list) and not any(hasattr(item, "shape") for item in part):
        return as_array(part)  # numbers, or rows of them; a list of arrays is several inputs
    return keras.tree.map_structure(as_array, part)


class _Shapes:
    """Stands for a probe in messages."""

    def __init__(self, probe: Probe) -> None:
        parts = tuple(probe if probe.sample_weight is not None else probe[:2])
        self._shapes = keras.tree.map_structure(np.shape, parts)

    def __repr__(self) -> str:
        return f"arrays of shapes {self._shapes}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
