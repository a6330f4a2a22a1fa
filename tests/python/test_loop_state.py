"""The training state as arrays, for steps on JAX."""

import helpers
import pytest
from loop_cases import ENGINE, body, built_for, make_idle
from own_loops import differing, make_model, variables

import pykguard as kg

on_jax = helpers.only_on("jax", "elsewhere variables change in place")


@on_jax
def test_a_batch_in_which_nothing_was_assigned_is_refused():
    with pytest.raises(kg.LoopError, match="no variable was assigned"):
        body(make_idle(), lambda loop, e: [loop.report(1.0) for _ in loop.batches(range(1))])


@on_jax
def test_a_state_that_was_read_before_the_batch_is_refused():
    def do(loop, epoch):
        state = loop.state()
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=state)

    with pytest.raises(kg.LoopError, match="what the callbacks changed since then would be lost"):
        body(make_idle(), do)


@on_jax
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda state: None.__class__, kg.OptionTypeError),
        (lambda state: state[:2], kg.OptionTypeError),
        (lambda state: (state[0][:-1], *state[1:]), kg.OptionValueError),
        (lambda state: (state[0][::-1], *state[1:]), kg.OptionValueError),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(spoil, error):
    model = make_model(ENGINE)
    optimizer = built_for(model)
    before = variables(model, optimizer)

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=spoil(loop.state()))

    with pytest.raises(error, match="`state` must be what `state"):
        body(kg.guarded_loop(model, optimizer, verbose=0, restore_on_error=False), do)
    assert differing(before, variables(model, optimizer)) == []


@on_jax
def test_a_state_that_was_given_away_is_there_again_after_an_error():
    import jax

    model = make_model(ENGINE)
    optimizer = built_for(model)
    before = variables(model, optimizer)
    give_away = jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0)

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            give_away(loop.state()[:2])
            raise KeyError("mine")

    with pytest.raises(KeyError):
        body(kg.guarded_loop(model, optimizer, verbose=0), do)
    assert differing(before, variables(model, optimizer)) == []


@helpers.not_on("jax", "there it is the way")
def test_the_state_as_arrays_is_for_jax():
    def read(loop, epoch):
        loop.state()

    def give(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=())

    for do in (read, give):
        with pytest.raises(kg.UnsupportedError, match="is for JAX"):
            body(make_idle(), do)
