"""Which library a model belongs to, Keras 3 or tf_keras, and what runs beneath it."""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np

from pykguard._errors import UnsupportedError

BACKENDS = ("tensorflow", "jax", "torch")
_STRATEGIES = ("MirroredStrategy", "MultiWorkerMirroredStrategy", "OneDeviceStrategy")


def is_legacy(model: Any) -> bool:
    """Whether it is a model of tf_keras, as Keras 2 is called today."""
    legacy = sys.modules.get("tf_keras")
    return legacy is not None and isinstance(model, legacy.Model)


def library_of(model: Any) -> Any:
    """The Keras that the model belongs to: the module `keras` or `tf_keras`."""
    return sys.modules["tf_keras"] if is_legacy(model) else keras


def backend_of(model: Any) -> str:
    """What computes the model: `"tensorflow"`, `"jax"`, `"torch"` or another of Keras' backends."""
    return "tensorflow" if is_legacy(model) else str(keras.backend.backend())


def require_supported(model: Any, what: str) -> None:
    """Refuse what was not made to work, in place of working wrongly.

    Raises:
        UnsupportedError: Keras runs on another backend, or `model` trains under another strategy of
            TensorFlow's than these.
    """
    backend = backend_of(model)
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS[:-1]) + " or " + BACKENDS[-1]
        raise UnsupportedError(f"{what} needs Keras on {known}, got {backend!r}")
    if backend != "tensorflow":
        return
    strategy = model.distribute_strategy
    names = {base.__name__ for base in type(strategy).__mro__}
    if names.isdisjoint((*_STRATEGIES, "_DefaultDistributionStrategy")):
        known = ", ".join(_STRATEGIES[:-1]) + " or " + _STRATEGIES[-1]
        raise UnsupportedError(
            f"{what} needs a model on one device or one under {known}, "
            f"got {type(strategy).__name__}"
        )


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """A variable's or a tensor's value on the host."""
    if hasattr(value, "numpy") and not hasattr(value, "detach"):
        return np.asarray(value.numpy())
    return np.asarray(keras.ops.convert_to_numpy(value))
