"""The Python half of R's loops; tests/testthat/test-guarded-loop.R has the other."""

import own_loops
import pytest
from loop_cases import DATA, Calls, adam, each_engine
from own_loops import differing, make_model, run, variables

import pykguard as kg
from pykguard import r_loop

OPTIONS = {"initial_epoch": 1, "steps": None, "verbose": 0, "restore_on_error": True}


def train(engine, loop, step, data):
    while loop.next_epoch():
        for x, y in data:
            assert loop.wants_batch("next_batch()")
            loop.begin_batch()
            report = step(loop, x, y)
            loop.end_batch(report["loss"], len(x), report.get("state"), None)
        loop.data_ended()


@each_engine
def test_a_loop_that_is_asked_for_each_batch_trains_as_one_that_is_gone_through(engine):
    asked, gone_through = make_model(engine), make_model(engine)
    one, two = adam(engine), adam(engine)
    history, other = kg.LossHistory(), kg.LossHistory()
    loop = r_loop.make(asked, one, [history], 3, **OPTIONS)
    train(engine, loop, own_loops.make_step(engine, asked, one), DATA)
    by_python = run(engine, gone_through, two, DATA, [other], epochs=3)
    assert differing(variables(asked, one), variables(gone_through, two)) == []
    assert history.batches["size"].tolist() == other.batches["size"].tolist()
    assert loop.record()["metrics"] == by_python.history.history
    assert loop.record()["epoch"] == [1, 2, 3]


@pytest.mark.skipif(
    "jax stateless" not in own_loops.ENGINES, reason="only on jax: its loops keep the state apart"
)
def test_the_state_is_in_lists_that_r_can_name():
    models = [make_model("jax stateless"), make_model("jax stateless")]
    optimizers = [adam(), adam()]
    of_one = r_loop.make(models[0], adam(), None, 1, **OPTIONS).state()
    of_two = r_loop.make(models, optimizers, None, 1, **OPTIONS).state()
    assert [type(of_one), *map(type, of_one)] == [list] * 4
    assert [type(part) for state in of_two for part in [state, *state]] == [list] * 8


def test_leaving_by_an_error_tells_where_and_by_break_does_not():
    calls = Calls()
    for by_error in (True, False):
        model = make_model(own_loops.ENGINES[0])
        loop = r_loop.make(model, adam(), calls, 2, **OPTIONS)
        loop.next_epoch()
        assert loop.leave(by_error) == ("in epoch 1" if by_error else None)
        assert loop.has_ended()
    assert calls.names.count("train end") == 1
