"""Copies of the training state, kept on the device. One file a backend."""

from __future__ import annotations

from typing import Any

from pykguard._platform import require_supported
from pykguard.snapshots._base import Snapshot, Snapshots


def snapshots_for(model: Any, *, optimizer: bool) -> Snapshots:
    """The snapshots of `model` on the backend in use.

    Args:
        model: A compiled Keras model.
        optimizer: Whether the optimizer's variables belong to the state.

    Raises:
        UnsupportedError: There are no snapshots for the backend or the model's strategy.
    """
    require_supported(model, "a snapshot")
    from pykguard.snapshots._tensorflow import TensorFlowSnapshots

    return TensorFlowSnapshots(model, optimizer=optimizer)


__all__ = ["Snapshot", "Snapshots", "snapshots_for"]
