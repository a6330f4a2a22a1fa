"""Copies of the training state, kept on the device. One file a backend."""

from __future__ import annotations

from typing import Any

from pykguard._framework import backend_of, require_supported
from pykguard.snapshots._base import Snapshot, Snapshots
from pykguard.snapshots._keeper import Keeper


def snapshots_for(
    model: Any,
    *,
    optimizer: bool,
    metrics: bool = False,
    random: bool = False,
    within_epochs: bool = False,
) -> Snapshots:
    """The snapshots of `model` on the backend in use.

    Args:
        model: A compiled Keras model.
        optimizer: Whether the optimizers' variables belong to the state.
        metrics: Whether the metrics' variables do, as they must within an epoch.
        random: Whether the global random states of Python, NumPy and PyTorch do.
        within_epochs: Whether states are kept every few batches.

    Raises:
        UnsupportedError: There are no snapshots for the backend or the model's strategy.
    """
    require_supported(model, "a snapshot")
    made = _class_for(backend_of(model), within_epochs)
    return made(model, optimizer=optimizer, metrics=metrics, random=random)


def _class_for(backend: str, within_epochs: bool) -> type[Snapshots]:
    if backend == "tensorflow" and within_epochs:
        from pykguard.snapshots._tensorflow_batches import TensorFlowBatchSnapshots

        return TensorFlowBatchSnapshots
    if backend == "tensorflow":
        from pykguard.snapshots._tensorflow import TensorFlowSnapshots

        return TensorFlowSnapshots
    if backend == "jax":
        from pykguard.snapshots._jax import JaxSnapshots

        return JaxSnapshots
    from pykguard.snapshots._torch import TorchSnapshots

    return TorchSnapshots


__all__ = ["Keeper", "Snapshot", "Snapshots", "snapshots_for"]
