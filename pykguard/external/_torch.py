"""External losses as operations of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from pykguard.external._host import Host


def losses(host: Host, y_true: Any, y_pred: Any, *, weighted: bool) -> Any:
    """Losses of shape `(rows,)`, whose gradient with respect to `y_pred` the host gives."""
    if y_pred.is_meta:  # Keras asks for the shape only
        return y_pred.new_empty(y_pred.shape[:1])
    return _Operation.apply(y_pred, y_true, host, weighted)


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_pred: Any, y_true: Any, host: Host, weighted: bool) -> Any:
        arrays = y_true.detach().cpu().numpy(), y_pred.detach().cpu().numpy()
        with torch.enable_grad():  # as everywhere else; the function may train another model
            if not ctx.needs_input_grad[0]:
                return y_pred.new_tensor(host.losses(*arrays, weighted=weighted).values)
            found, gradient = host.losses_and_gradient(*arrays, weighted=weighted)
        ctx.is_scalar = found.is_scalar
        ctx.save_for_backward(y_pred.new_tensor(gradient))
        return y_pred.new_tensor(found.values)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        each = upstream.sum().expand_as(upstream) if ctx.is_scalar else upstream
        return gradient * each.reshape((-1,) + (1,) * (gradient.ndim - 1)), None, None, None
