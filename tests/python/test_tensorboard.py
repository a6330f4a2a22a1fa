import math
import sys

import helpers
import numpy as np
import pytest

from pykguard import (
    LossHistory,
    OptionTypeError,
    OptionValueError,
    RevertOnLossIncrease,
    read_history,
)
from pykguard.history_files._tensorboard import TensorBoardWriter, check_log_dir

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def load(folder):
    """What TensorBoard itself finds in a folder."""
    events = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.TENSORS: 0})
    return events.Reload()


def scalars(folder, tag):
    from tensorboard.util.tensor_util import make_ndarray

    return [(e.step, make_ndarray(e.tensor_proto).item()) for e in load(folder).Tensors(tag)]


def single(value):
    return float(np.float32(value))


@pytest.fixture
def writer(tmp_path):
    writer = TensorBoardWriter(str(tmp_path))
    yield writer
    writer.close()


def test_tensorboard_reads_each_scalar(tmp_path, writer):
    losses = [1 / (step + 1) for step in range(500)]
    for step, loss in enumerate(losses):
        writer.scalars("train", step, {"batch_loss": loss, "learning rate": 0.1})
    writer.scalars("validation", 7, {"epoch_loss": 0.25})
    writer.close()
    train, validation = tmp_path / "train", tmp_path / "validation"
    assert scalars(train, "batch_loss") == [(i, single(v)) for i, v in enumerate(losses)]
    assert scalars(train, "learning rate") == [(i, single(0.1)) for i in range(500)]
    assert scalars(validation, "epoch_loss") == [(7, 0.25)]
    assert load(train).Tags()["tensors"] == ["batch_loss", "learning rate"]


def test_tensorboard_shows_scalars_as_scalars_and_texts_as_texts(tmp_path, writer):
    writer.scalars("train", 0, {"loss": 1.0})
    writer.text("reverts", 3, "**Epoch 3**: süß\n\nline two")
    writer.close()
    events = load(tmp_path / "train")
    kinds = {
        tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]
    }
    assert kinds == {"loss": "scalars", "reverts": "text"}
    [text] = events.Tensors("reverts")
    assert text.step == 3
    assert [s.decode() for s in text.tensor_proto.string_val] == ["**Epoch 3**: süß\n\nline two"]


def test_values_that_are_not_finite_survive(tmp_path, writer):
    for step, value in enumerate([math.nan, math.inf, -math.inf, 0.5]):
        writer.scalars("train", step, {"loss": value})
    writer.close()
    (_, first), *others = scalars(tmp_path / "train", "loss")
    assert math.isnan(first)
    assert others == [(1, math.inf), (2, -math.inf), (3, 0.5)]


def test_a_value_beyond_single_precision_is_infinite_and_warns_of_nothing(
    tmp_path, writer, recwarn
):
    writer.scalars("train", 0, {"loss": 1e300})
    writer.close()
    assert scalars(tmp_path / "train", "loss") == [(0, math.inf)]
    assert not recwarn.list


def test_what_was_flushed_can_be_read_while_training_goes_on(tmp_path, writer):
    writer.scalars("train", 0, {"loss": 1.0})
    writer.flush()
    assert scalars(tmp_path / "train", "loss") == [(0, 1.0)]
    writer.scalars("train", 1, {"loss": 2.0})
    writer.flush()
    assert scalars(tmp_path / "train", "loss") == [(0, 1.0), (1, 2.0)]


def test_a_folder_is_made_when_it_is_first_written_to(tmp_path, writer):
    assert list(tmp_path.iterdir()) == []
    writer.scalars("validation", 0, {"loss": 1.0})
    assert [folder.name for folder in tmp_path.iterdir()] == ["validation"]


def test_two_writers_of_one_folder_keep_apart_files(tmp_path):
    for step in (0, 1):
        writer = TensorBoardWriter(str(tmp_path))
        writer.scalars("train", step, {"loss": 1.0})
        writer.close()
        writer.close()
    assert len(list((tmp_path / "train").iterdir())) == 2
    assert scalars(tmp_path / "train", "loss") == [(0, 1.0), (1, 1.0)]


# ---------------------------------------------------------------- the option
def test_a_folder_is_taken_whether_it_is_there_or_not(tmp_path):
    assert check_log_dir(None) is None
    assert check_log_dir(tmp_path) == str(tmp_path)
    assert check_log_dir(str(tmp_path / "a" / "b")) == str(tmp_path / "a" / "b")


@pytest.mark.parametrize("log_dir", [5, True, b"logs", ["logs"]])
def test_what_is_no_name_is_refused(log_dir):
    with pytest.raises(OptionTypeError, match="`log_dir` must be None or the name of a folder"):
        check_log_dir(log_dir)


@pytest.mark.parametrize("log_dir", ["", "  ", "a\0b", __file__])
def test_what_can_be_no_folder_is_refused(log_dir):
    with pytest.raises(OptionValueError, match="`log_dir` must be None or the name of a folder"):
        check_log_dir(log_dir)


@pytest.mark.parametrize("use", [check_log_dir, TensorBoardWriter])
def test_without_tensorboard_the_error_names_the_option_and_the_package(tmp_path, monkeypatch, use):
    hidden = [name for name in sys.modules if name.split(".")[0] == "tensorboard"]
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ImportError, match=r"`log_dir` needs .*`pip install tensorboard`"):
        use(str(tmp_path))


# ---------------------------------------------------------------- a LossHistory's
def texts(folder, tag):
    return [(e.step, e.tensor_proto.string_val[0].decode()) for e in load(folder).Tensors(tag)]


@pytest.mark.parametrize("every", [1, 3])
def test_tensorboard_finds_every_batch_epoch_and_event_of_a_fit(tmp_path, every):
    x, y = helpers.line()
    poison = helpers.PoisonedData(x, y, {1})
    guard = RevertOnLossIncrease()
    history = LossHistory(every=every, log_dir=tmp_path)
    helpers.dense_model().fit(
        poison.data,
        validation_data=(x, y),
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[poison, history, guard],
    )
    train, batches = tmp_path / "train", history.batches
    steps = (4 * batches["epoch"] + batches["batch"]).tolist()
    assert len(steps) == len(history.losses) == {1: 12, 3: 6}[every]
    for tag, column in (("batch_loss", "loss"), ("batch_learning_rate", "learning_rate")):
        found = scalars(train, tag)
        assert [step for step, _ in found] == steps
        np.testing.assert_array_equal([value for _, value in found], batches[column])
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        found = scalars(tmp_path / part, "epoch_loss")
        assert [step for step, _ in found] == [0, 1, 2]
        expected = history.epochs[name].astype("float32")
        np.testing.assert_array_equal([value for _, value in found], expected)
    [event] = guard.events
    assert texts(train, "guards") == [(1, str(event))]
    assert history.events == [event]


@pytest.mark.parametrize("first", [True, False])
def test_events_of_guards_are_in_the_record_wherever_they_stand_in_the_list(first, tmp_path):
    x, y = helpers.line()
    guard, history = RevertOnLossIncrease(), LossHistory(tmp_path / "losses.csv")
    model = helpers.dense_model()
    for number in range(2):  # the guard forgets the first fit's events, and so must the record
        poison = helpers.PoisonedData(x, y, {1, 3})
        callbacks = [history, guard] if first else [guard, history]
        model.fit(poison.data, shuffle=False, epochs=4, verbose=0, callbacks=[poison, *callbacks])
        assert len(guard.events) == 2
        assert history.events == guard.events
        read = read_history(history.path)[number].events
        assert repr(read) == repr(guard.events)  # whose values are NaN
