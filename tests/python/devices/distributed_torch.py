"""A model on PyTorch with DistributedDataParallel over gloo; arguments: RANK PORT."""

import gc
import os
import sys

rank, port = int(sys.argv[1]), sys.argv[2]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo")

import keras  # noqa: E402
import torch  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

torch.distributed.init_process_group("gloo", rank=rank, world_size=2)


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


def make(rate=0.01):
    keras.utils.set_random_seed(1)
    model = Network()
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def state(model):
    variables = model.variables + model.optimizer.variables
    return [keras.ops.convert_to_numpy(v) for v in variables]


def leave():
    """End the process, with the other one."""
    # Gloo aborts a process that ends while another one still talks to it.
    gc.collect()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # nor do its threads always survive the end of the interpreter
