"""SpikeGuard under DistributedDataParallel; usage: torch_ddp_spikes.py RANK PORT."""

import common
import keras
from distributed_torch import leave, make, rank, state
from spiked import BAD, Batches

import pykguard


class Data(keras.utils.PyDataset):
    """This process' half of each batch; the bad row is the second one's."""

    def __init__(self, **which):
        super().__init__()
        self.batches = Batches(**which)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        x, y = self.batches[index]
        half = slice(rank * len(x) // 2, (rank + 1) * len(x) // 2)
        return x[half], y[half]


def trained(model, guard, epochs=1, **which):
    history = model.fit(Data(**which), epochs=epochs, shuffle=False, verbose=0, callbacks=[guard])
    return guard, history.history["loss"]


spared, rescued, wild = make(), make(), make(rate=100.0)
trained(spared, pykguard.SpikeGuard(interval=1), left_out={BAD})
guard, _ = trained(rescued, pykguard.SpikeGuard(interval=1), bad={BAD})
of_rate, course = trained(wild, pykguard.SpikeGuard(), epochs=6)
common.report(
    rank=rank,
    spared=common.digest(state(spared)),
    rescued=common.digest(state(rescued)),
    events=[[e.batch, e.action, e.reason] for e in guard.events],
    decisions=[[e.epoch, e.batch, e.action, e.learning_rate] for e in of_rate.events],
    weights=common.digest(keras.ops.convert_to_numpy(v) for v in wild.trainable_variables),
    scale=of_rate._scale,
    course=course,
)
leave()
