"""SpikeGuard on JAX with keras.distribution, on four virtual CPUs."""

import common
import distributed_jax as jax_models
import keras
from spiked import BAD, ROWS, Batches, X, Y

import pykguard


class Data(Batches, keras.utils.PyDataset):
    """The batches, for `fit`."""

    def __init__(self, **which):
        keras.utils.PyDataset.__init__(self)
        Batches.__init__(self, **which)


def trained(model, data):
    guard = pykguard.SpikeGuard(interval=1)
    history = model.fit(data, shuffle=False, verbose=0, callbacks=[guard])
    return guard, history.history["loss"]


for distribution in (jax_models.data_parallel(), jax_models.model_parallel()):
    with distribution.scope():
        spared, rescued, wild = jax_models.make(), jax_models.make(), jax_models.make(rate=100.0)
        _, loss = trained(spared, Data(left_out={BAD}))
        guard, rescued_loss = trained(rescued, Data(bad={BAD}))
        of_rate = pykguard.SpikeGuard()
        history = wild.fit(X, Y, batch_size=ROWS, epochs=12, verbose=0, callbacks=[of_rate])
    common.report(
        spared=[common.digest(each) for each in jax_models.shards(spared)],
        rescued=[common.digest(each) for each in jax_models.shards(rescued)],
        losses=[loss[-1], rescued_loss[-1]],
        events=[[e.batch, e.action, e.reason] for e in guard.events],
        scale=of_rate._scale,
        course=history.history["loss"],
    )
