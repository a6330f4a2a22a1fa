"""The numbers in what Keras logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import keras
import numpy as np

Logs = Mapping[str, Any]


def numbers_in(logs: Logs) -> Iterator[tuple[str, float]]:
    """The metrics in `logs`; one of several values as `name[0]`, `name[1]` and so on."""
    for name, value in logs.items():
        if isinstance(value, float):
            yield name, float(value)
            continue
        if "bfloat16" in str(getattr(value, "dtype", "")):  # which NumPy does not know
            value = keras.ops.cast(value, "float32")
        values = np.asarray(value)
        if values.dtype.kind not in "biuf":
            continue  # a note of some callback, not a metric
        if values.size == 1:
            yield name, float(values.reshape(()))
        else:
            yield from ((f"{name}[{i}]", float(v)) for i, v in enumerate(values.ravel()))


def logged_columns(logs: Sequence[Logs]) -> dict[str, Sequence[float]]:
    """The metrics in `logs` by the names of their columns, NaN where one is missing."""
    columns: dict[str, Sequence[float]] = {}
    for name in dict.fromkeys(chain.from_iterable(logs)):
        values = [each.get(name, math.nan) for each in logs]
        if all(type(value) is float for value in values):
            columns[f"logged_{name}"] = values
        else:
            alone = [{name: each[name]} if name in each else {} for each in logs]
            columns |= logged_columns([dict(numbers_in(each)) for each in alone])
    return columns
