"""External losses as operations of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pykguard.external._host import Host


def losses(host: Host, y_true: Any, y_pred: Any, *, weighted: bool) -> Any:
    """Losses of shape `(rows,)`, whose gradient with respect to `y_pred` the host gives."""
    values_like = jax.ShapeDtypeStruct(y_pred.shape[:1], y_pred.dtype)
    gradient_like = jax.ShapeDtypeStruct(y_pred.shape, y_pred.dtype)
    flag_like = jax.ShapeDtypeStruct((), jnp.bool_)

    def loss_only(y_true: Any, y_pred: Any) -> Any:
        return host.losses(y_true, y_pred, weighted=weighted).values

    def both(y_true: Any, y_pred: Any) -> Any:
        found, gradient = host.losses_and_gradient(y_true, y_pred, weighted=weighted)
        return found.values, gradient, np.bool_(found.is_scalar)

    @jax.custom_vjp
    def operation(y_true: Any, y_pred: Any) -> Any:
        return _on_host(loss_only, values_like, y_true, y_pred)

    def forward(y_true: Any, y_pred: Any) -> Any:
        values, gradient, is_scalar = _on_host(
            both, (values_like, gradient_like, flag_like), y_true, y_pred
        )
        return values, (gradient, is_scalar, y_true)

    def backward(kept: Any, upstream: Any) -> Any:
        gradient, is_scalar, y_true = kept
        each = jnp.where(is_scalar, jnp.sum(upstream), upstream)
        each = jnp.reshape(each, (-1,) + (1,) * (gradient.ndim - 1))
        return jnp.zeros_like(y_true), gradient * each

    operation.defvjp(forward, backward)
    return operation(y_true, y_pred)


def _on_host(function: Callable[..., Any], like: Any, *arrays: Any) -> Any:
    """What the function returns: called at once, and on this thread, where nothing is compiled."""
    if any(isinstance(each, jax.core.Tracer) for each in arrays):
        return jax.pure_callback(function, like, *arrays)
    return jax.tree.map(jnp.asarray, function(*arrays))
