"""Several devices: the roll-back is exact on each of them, and all decide alike."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import helpers
import keras
import pytest

SCRIPTS = helpers.ROOT / "tests" / "python" / "devices"


def run(script, *arguments):
    """Run the script once for each of `arguments`, at the same time; returns their results."""
    environment = {**os.environ, "PYTHONPATH": str(helpers.PACKAGE.parent)}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(SCRIPTS / script), *map(str, each)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for each in arguments
        ]
        try:
            outputs = [process.communicate(timeout=400) for process in processes]
        finally:
            for process in processes:
                process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    lines = [line for out, _ in outputs for line in out.splitlines()]
    return [json.loads(line.removeprefix("RESULT ")) for line in lines if line.startswith("RESULT")]


def free_ports(n):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@helpers.only_on("tensorflow", "MirroredStrategy is TensorFlow's")
def test_mirrored_strategy():
    small, big, broken, history, storage = run("mirrored.py", [])
    for result in (small, big):
        assert result["rescued"] == result["plain"]
        # Where they differ, a copy by way of the host would be wrong; Keras 3.7 averages them.
        assert result["statistics_differ"] is not keras.__version__.startswith("3.7.")
        assert [epoch for epoch, _ in result["events"]] == [2]
    [(epoch, reason)] = broken["broken"]
    assert epoch == 2 and "non-finite values in" in reason and "moving_mean" in reason
    assert history["refused"] == "LossHistory needs a model with one replica, got 2"
    assert "got CentralStorageStrategy" in storage["refused"]


@helpers.only_on("tensorflow", "MirroredStrategy is TensorFlow's")
def test_rates_that_are_reset_under_mirrored_strategy():
    wanted = {"float": [0.05] * 3, "schedule": [0.5, 0.25, 0.125], "callable": [0.03] * 3}
    results = run("mirrored_rates.py", [])
    assert len(results) == 9
    for result in results:
        for rates in result["rates"]:
            assert rates == pytest.approx(wanted[result["new"]], abs=1e-6), result


@helpers.only_on("tensorflow", "MirroredStrategy is TensorFlow's")
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_spikes_under_mirrored_strategy(library):
    pytest.importorskip(library)
    results = run("mirrored_spikes.py", [library])
    if library == "keras" and keras.__version__.startswith("3.7."):
        assert "whose metrics keep what each replica measures, got 3.7" in results[0]["refused"]
        return
    one_batch, rate, uneven = results
    assert one_batch["rescued"] == one_batch["spared"]
    assert one_batch["losses"][0] == pytest.approx(one_batch["losses"][1], rel=1e-6)
    assert one_batch["events"] == [[13, "rollback", "is not finite: bad data, skipped"]]
    assert rate["scale"] < 0.01 and "reset_learning_rate" in rate["actions"]
    assert rate["losses"][-1] < 0.5 * rate["losses"][0]
    assert uneven["is_finite"]


@helpers.only_on("tensorflow", "tf_keras is TensorFlow's")
def test_several_workers_with_tf_keras():
    pytest.importorskip("tf_keras")
    found = {}
    for mode in ("plain", "rescued", "broken"):
        ports = free_ports(2)
        arguments = [[mode, rank, *ports] for rank in (0, 1)]
        found[mode] = run("multi_worker.py", *arguments)
    for plain, rescued, broken in zip(*found.values(), strict=True):
        assert rescued["state"] == plain["state"]
        assert [plain["events"], rescued["events"], broken["events"]] == [[], [2], [2]]
    one, other = found["plain"]
    assert one["statistics"] != other["statistics"]


@helpers.only_on("jax", "keras.distribution is for JAX")
def test_distributions_on_jax():
    data_parallel, model_parallel = run("jax_distribution.py", [])
    for result in (data_parallel, model_parallel):
        assert len(result["plain"]) == 4
        assert result["rescued"] == result["plain"]
        before, after = result["shardings"]
        assert before == after
        assert result["events"] == [2]
    assert model_parallel["n_sharded"] > 4 > data_parallel["n_sharded"]
    assert len(set(model_parallel["plain"])) > 1


@helpers.only_on("jax", "keras.distribution is for JAX")
def test_spikes_under_distributions_on_jax():
    results = run("jax_spikes.py", [])
    assert len(results) == 2
    for result in results:
        assert len(result["spared"]) == 4 and result["rescued"] == result["spared"]
        assert result["losses"][1] == result["losses"][0]
        assert result["events"] == [[13, "rollback", "is not finite: bad data, skipped"]]
        assert result["scale"] < 0.01
        assert result["course"][-1] < 0.5 * result["course"][1]


@helpers.only_on("torch", "DistributedDataParallel is PyTorch's")
def test_spikes_under_distributed_data_parallel():
    [port] = free_ports(1)
    one, other = run("torch_ddp_spikes.py", [0, port], [1, port])
    assert [one["rank"], other["rank"]] == [0, 1]
    for result in (one, other):
        assert result["rescued"] == result["spared"]
        assert result["events"] == [[13, "rollback", "is not finite: bad data, skipped"]]
        assert result["course"][-1] < 0.5 * result["course"][0]
    assert one["scale"] < 0.01
    for same in ("decisions", "weights", "scale"):
        assert one[same] == other[same]


@helpers.only_on("torch", "DistributedDataParallel is PyTorch's")
def test_distributed_data_parallel():
    [port] = free_ports(1)
    results = run("torch_ddp.py", [0, port], [1, port])
    assert [(r["kind"], r["rank"]) for r in results] == [
        ("fit", 0),
        ("loop", 0),
        ("fit", 1),
        ("loop", 1),
    ]
    for result in results:
        assert result["rescued"] == result["plain"]
        assert result["events"] == [2]
    for one, other in (results[0::2], results[1::2]):
        assert one["best"] == other["best"]
        assert one["statistics"] != other["statistics"]
    assert [r["broken"] for r in results[0::2]] == [[2], [2]]
