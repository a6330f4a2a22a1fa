"""Checks of what the function of an external loss returned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pykguard._errors import ExternalLossError, brief

Array = np.ndarray[Any, Any]


class Losses(NamedTuple):
    """The losses of a batch."""

    values: Array  # (rows,): one a sample; or a loss of the whole batch, repeated
    is_scalar: bool


def as_pair(name: str, returned: Any) -> tuple[Any, Any]:
    """Accept a loss and a gradient.

    Raises:
        ExternalLossError: It is not a tuple or list of two.
    """
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        got = brief(returned)
        if isinstance(returned, (tuple, list)):
            got = f"a {type(returned).__name__} of {len(returned)}"
        raise _wrong(name, "a tuple (loss, gradient)", got)
    return returned[0], returned[1]


def as_losses(name: str, returned: Any, like: Array) -> Losses:
    """Accept a finite loss, a scalar or one a sample of the predictions `like`.

    Raises:
        ExternalLossError: It is something else.
    """
    rows = len(like)
    requirement = f"a finite loss, a scalar or an array of shape ({rows},)"
    loss = _numbers(name, requirement, returned, like.dtype)
    if loss.shape not in ((), (rows,)):
        raise _wrong(name, requirement, f"an array of shape {loss.shape}")
    return Losses(np.broadcast_to(loss, (rows,)).copy(), loss.shape == ())


def as_gradient(name: str, returned: Any, like: Array) -> Array:
    """Accept a finite gradient of the shape of the predictions `like`.

    Raises:
        ExternalLossError: It is something else.
    """
    requirement = f"a finite gradient of the predictions' shape {like.shape}"
    gradient = _numbers(name, requirement, returned, like.dtype)
    if gradient.shape != like.shape:
        raise _wrong(name, requirement, f"an array of shape {gradient.shape}")
    return gradient


def _numbers(name: str, requirement: str, returned: Any, dtype: Any) -> Array:
    try:
        array = np.asarray(returned)
    except ValueError:  # rows of different lengths
        raise _wrong(name, requirement, brief(returned)) from None
    if array.dtype.kind not in "iuf":
        raise _wrong(name, requirement, brief(returned))
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    bad = array[~np.isfinite(array)]
    if bad.size:
        where = f" in an array of shape {array.shape}" if array.shape else ""
        raise _wrong(name, requirement, f"{bad[0]}{where}")
    return array


def _wrong(name: str, requirement: str, got: str) -> ExternalLossError:
    return ExternalLossError(
        f"the function of the external loss {name!r} must return {requirement}, got {got}"
    )
