"""The guards of epochs on JAX with keras.distribution, on four virtual CPUs."""

import common
import poison
from distributed_jax import data_parallel, make, model_parallel, shardings, shards

import pykguard

X, Y = common.data()


def run(bad):
    model = make()
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    poison.fit(
        model,
        X,
        Y,
        spoil=poison.nan_inputs,
        bad=bad,
        epochs=common.EPOCHS_OF_A + bool(bad),
        callbacks=[guard],
    )
    return model, [event.epoch for event in guard.events]


for distribution in (data_parallel(), model_parallel()):
    with distribution.scope():
        plain, no_events = run(set())
        rescued, events = run({common.BAD_EPOCH})
    common.report(
        distribution=type(distribution).__name__,
        plain=[common.digest(each) for each in shards(plain)],
        rescued=[common.digest(each) for each in shards(rescued)],
        shardings=[shardings(plain), shardings(rescued)],
        n_sharded=sum("model" in spec for spec in shardings(plain)),
        events=no_events + events,
    )
