"""Deciding alike in several processes that train one model together.

Under PyTorch's DistributedDataParallel each process has its own shard of the data, and so its own
loss. TensorFlow's strategies and JAX' distributions log what all of them measured.
"""

from __future__ import annotations

import sys
from typing import Any


def gather(value: Any) -> list[Any]:
    """What each process of a PyTorch process group gives, in the order of their ranks.

    Every process must call it, as often as the others. Where there is no group it is one value.
    """
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def mean_of_all(value: float | None) -> float | None:
    """The mean of the processes' values; None if none of them measured it."""
    values = [v for v in gather(value) if v is not None]
    return sum(values) / len(values) if values else None
