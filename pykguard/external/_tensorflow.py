"""External losses as operations of TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pykguard.external._host import Host


def losses(host: Host, y_true: Any, y_pred: Any, *, weighted: bool) -> Any:
    """Losses of shape `(rows,)`, whose gradient with respect to `y_pred` the host gives."""
    dtype = y_pred.dtype

    def both(y_true: Any, y_pred: Any) -> Any:
        found, gradient = host.losses_and_gradient(y_true, y_pred, weighted=weighted)
        return found.values, gradient, found.is_scalar

    def loss_only(y_true: Any, y_pred: Any) -> Any:
        found = host.losses(y_true, y_pred, weighted=weighted)
        return found.values, found.is_scalar

    @tf.custom_gradient
    def operation(y_pred: Any) -> Any:
        if host.spsa is None:
            values, gradient, is_scalar = tf.numpy_function(
                both, [y_true, y_pred], [dtype, dtype, tf.bool]
            )
        else:
            values, is_scalar = tf.numpy_function(loss_only, [y_true, y_pred], [dtype, tf.bool])
        values.set_shape(y_pred.shape[:1])
        is_scalar.set_shape(())

        def backward(upstream: Any) -> Any:
            known = gradient if host.spsa is None else estimated()
            known.set_shape(y_pred.shape)
            each = tf.where(
                is_scalar, tf.fill(tf.shape(upstream), tf.reduce_sum(upstream)), upstream
            )
            return known * tf.reshape(each, [-1] + [1] * (len(y_pred.shape) - 1))

        def estimated() -> Any:
            return tf.numpy_function(host.estimated_gradient, [y_true, y_pred], dtype)

        return values, backward

    return operation(y_pred)
