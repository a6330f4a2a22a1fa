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
    import tensorflow as tf

    strategy = model.distribute_strategy
    supported = tuple(getattr(tf.distribute, name) for name in _STRATEGIES)
    if not isinstance(strategy, supported) and strategy is not _default_strategy():
        known = ", ".join(_STRATEGIES[:-1]) + " or " + _STRATEGIES[-1]
        raise UnsupportedError(
            f"{what} needs a model on one device or one under {known}, "
            f"got {type(strategy).__name__}"
        )


def require_one_replica(model: Any, what: str) -> None:
    """Refuse a model of which TensorFlow trains several replicas.

    Raises:
        UnsupportedError: It does.
    """
    require_supported(model, what)
    if backend_of(model) == "tensorflow":
        replicas = model.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise UnsupportedError(f"{what} needs a model with one replica, got {replicas}")


def require_one_process(model: Any, what: str) -> None:
    """Refuse a model that TensorFlow trains in several processes.

    Raises:
        UnsupportedError: It does.
    """
    require_supported(model, what)
    if backend_of(model) == "tensorflow":
        import tensorflow as tf

        strategy = model.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise UnsupportedError(
                f"{what} needs a model that is trained in one process, got one under "
                "MultiWorkerMirroredStrategy"
            )


def _default_strategy() -> Any:
    """The strategy that TensorFlow uses where none was asked for."""
    import tensorflow as tf

    with tf.Graph().as_default():  # outside of any `scope()`
        return tf.distribute.get_strategy()


def replicas_of(variable: Any) -> tuple[Any, ...]:
    """The variables of TensorFlow behind one, one for each replica that is in this process."""
    handle = variable.value if isinstance(variable, keras.Variable) else variable
    # A mirrored variable has its replicas' in `values`; an ordinary one has no such attribute.
    return tuple(getattr(handle, "values", None) or (handle,))


def read_now(variable: Any) -> Any:
    """What one of TensorFlow's own variables holds, in a third of the time of `read_value()`.

    The tensor shares the variable's memory until the variable is next written to.
    """
    import tensorflow as tf

    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """A variable's or a tensor's value on the host."""
    if isinstance(value, keras.Variable):
        value = value.value
    if hasattr(value, "numpy") and not hasattr(value, "detach"):  # TensorFlow's, of any Keras
        return np.asarray(value.numpy())
    return np.asarray(keras.ops.convert_to_numpy(value))
