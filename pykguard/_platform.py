"""Where this version of pykguard works."""

from __future__ import annotations

from typing import Any

import keras

from pykguard._errors import UnsupportedError


def require_supported(model: Any, what: str) -> None:
    """Refuse what was not made to work, in place of working wrongly.

    Raises:
        UnsupportedError: Keras does not run on TensorFlow, or `model` trains on several replicas.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UnsupportedError(f"{what} needs Keras' TensorFlow backend, got {backend!r}")
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise UnsupportedError(f"{what} needs a model on one device, got {replicas} replicas")
