"""Keras on PyTorch with DistributedDataParallel over gloo; usage: torch_ddp.py RANK PORT."""

import gc
import os
import sys

rank, port = int(sys.argv[1]), sys.argv[2]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo")

import common  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import poison  # noqa: E402
import torch  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import pykguard  # noqa: E402

torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
X, Y = (array[rank::2] for array in common.data())  # each process has its own half


class Network(keras.Model):
    """Trains itself through a DistributedDataParallel that wraps its layers."""

    def __init__(self):
        super().__init__()
        layers = [
            keras.Input((3,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
        self.inner = keras.Sequential(layers)
        object.__setattr__(self, "parallel", DistributedDataParallel(self.inner))

    def call(self, inputs, training=False):
        return self.inner(inputs, training=training)

    def train_step(self, batch):
        x, y = batch
        self.zero_grad()
        loss = self.compute_loss(x=x, y=y, y_pred=self.parallel(x, training=True))
        self._loss_tracker.update_state(loss, sample_weight=x.shape[0])
        loss.backward()
        weights = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([w.value.grad for w in weights], weights)
        return {"loss": self._loss_tracker.result()}


def make():
    keras.utils.set_random_seed(1)
    model = Network()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def state(model):
    variables = model.variables + model.optimizer.variables
    return [keras.ops.convert_to_numpy(v) for v in variables]


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
# Gloo aborts a process that ends while another one still talks to it.
del plain, rescued, no_guard, guard, keep, broken
gc.collect()
torch.distributed.barrier()
torch.distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # nor do its threads always survive the end of the interpreter
