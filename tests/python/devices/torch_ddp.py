"""The guards of epochs under DistributedDataParallel; usage: torch_ddp.py RANK PORT."""

import common
import keras
import numpy as np
import poison
import torch
from distributed_torch import leave, make, rank, state

import pykguard

X, Y = (array[rank::2] for array in common.data())  # each process has its own half


def mean_of_batch_norm(model):
    return next(v for v in model.variables if "moving_mean" in v.path)


class BreaksTheSecondProcess(keras.callbacks.Callback):
    """Makes one number of one process' BatchNorm statistics NaN, which no loss shows."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == common.BAD_EPOCH and rank == 1:
            with torch.no_grad():
                mean_of_batch_norm(self.model).value[3] = np.nan


def run_fit(bad, breaks=False):
    """`fit` in each process; the poison is in one process' data only."""
    model = make()
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    keep = pykguard.RestoreBest("loss")
    poison.fit(
        model,
        X,
        Y,
        spoil=poison.nan_inputs,
        bad=bad if rank == 1 else set(),
        epochs=common.EPOCHS_OF_A + bool(bad or breaks),
        callbacks=[*[BreaksTheSecondProcess()] * breaks, guard, keep],
    )
    return model, guard, keep


def run_loop(bad):
    """A loop written by hand, which gives the guard the wrapped model."""
    model = make()
    model.optimizer.build(model.trainable_variables)
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    guard.set_model(model.parallel)
    model.inner.compile(model.optimizer, "mse")
    guard.on_train_begin()
    for epoch in range(common.EPOCHS_OF_A + bool(bad)):
        guard.on_epoch_begin(epoch)
        x, y = (torch.as_tensor(array) for array in (X, Y))
        if epoch in bad and rank == 1:
            x = x * np.nan
        loss = float(model.train_step((x, y))["loss"].detach())
        model.reset_metrics()
        guard.on_epoch_end(epoch, {"loss": loss})
    guard.on_train_end()
    return model, guard


def report(kind, plain, rescued, no_guard, guard, **more):
    common.report(
        kind=kind,
        rank=rank,
        plain=common.digest(state(plain)),
        rescued=common.digest(state(rescued)),
        statistics=keras.ops.convert_to_numpy(mean_of_batch_norm(plain)).tolist(),
        events=[event.epoch for event in no_guard.events + guard.events],
        **more,
    )


plain, no_guard, _ = run_fit(set())
rescued, guard, keep = run_fit({common.BAD_EPOCH})
_, broken, _ = run_fit(set(), breaks=True)
best = [guard.best, keep.best, keep.best_epoch]
broken_epochs = [event.epoch for event in broken.events]
report("fit", plain, rescued, no_guard, guard, best=best, broken=broken_epochs)
plain, no_guard = run_loop(set())
rescued, guard = run_loop({common.BAD_EPOCH})
report("loop", plain, rescued, no_guard, guard, best=[guard.best])
del plain, rescued, no_guard, guard, keep, broken
leave()
