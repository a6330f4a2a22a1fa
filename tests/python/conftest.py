import os
import tempfile
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import helpers
import keras
import pytest

from pykguard.snapshots import snapshots_for

if helpers.BACKEND == "jax":
    import jax

    # The tests train the same few models over and over, and JAX compiles each of them anew.
    compiled = tempfile.TemporaryDirectory(prefix="kguard-tests-")
    jax.config.update("jax_compilation_cache_dir", compiled.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(params=[False, True] if helpers.BACKEND == "tensorflow" else [False])
def snapshots_of(request):
    """Makes the snapshots of a model; there are two kinds on TensorFlow."""
    return partial(snapshots_for, within_epochs=request.param)


@pytest.fixture(scope="session")
def shared_marker_model():
    model = helpers.marker_model()
    model.evaluate(*helpers.ones(), verbose=0)
    return model


@pytest.fixture
def marked(shared_marker_model):
    """A compiled model of one weight, at its initial value and learning rate."""
    helpers.mark(shared_marker_model, -1)
    shared_marker_model.optimizer.learning_rate = 0.1
    shared_marker_model.stop_training = False
    return shared_marker_model
