"""The stand-in for models of tf_keras; imported only where tf_keras is in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from pykguard.loop._stand_in import Together


class LegacyTogether(Together, tf_keras.Model):
    """The stand-in for models of tf_keras."""

    def __init__(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        super().__init__(name="guarded_loop", dtype="float32")
        self._hold(models, optimizers)

    def begin_means(self) -> None:
        """Start the means of an epoch, and the count of batches that the progress bar reads."""
        super().begin_means()
        self._train_counter.assign(0)

    def add_batch(self, loss: Any, size: int, metrics: Any) -> dict[str, Any]:
        """Add a batch to the means and to the count; returns the means."""
        self._train_counter.assign_add(1)
        return super().add_batch(loss, size, metrics)

    def _loss_mean(self) -> Any:
        return self.compiled_loss._total_loss_mean

    def _new_mean(self, name: str) -> Any:
        return tf_keras.metrics.Mean(name=name)

    def _tensor(self, value: Any) -> Any:
        return tf.cast(value, tf_keras.backend.floatx())
