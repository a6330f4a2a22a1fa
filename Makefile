# make demo            trains four ways on the diamonds and writes examples/rescue.png
# make examples        runs the examples of losses and loops of one's own, in R and in Python
# make test            runs every check
# make test-backends   runs the Python suite on JAX, on PyTorch and with older versions of Keras
# make test-all        does both, two things at a time
# make benchmark       measures what the guards cost and writes benchmarks/overhead.png
# make benchmark-hooks measures what callbacks cost in R for each batch
# make benchmark-recording measures what a LossHistory costs for each batch
# make benchmark-external measures what an external loss costs for each batch
# make benchmark-rescue counts how many failing runs SpikeGuard and its rivals save (an hour)
# make benchmark-rescue-more, benchmark-rescue-held-out count them on nineteen further tasks each
# make benchmark-spike measures what SpikeGuard costs
# make detection       measures which spikes SpikeGuard sees, and its false alarms
# make table           measures the learning rates that are used after each kind of change
# They install what a fresh Debian or Ubuntu lacks; see tools/setup.sh.

PYTHON = $(CURDIR)/.venv/bin/python
RLIB = $(CURDIR)/build/library
SOURCES = $(shell git ls-files --cached --others --exclude-standard \
	DESCRIPTION NAMESPACE R man inst pykguard vignettes tests)

export RETICULATE_PYTHON = $(PYTHON)
export TF_CPP_MIN_LOG_LEVEL = 3
export PYTHONDONTWRITEBYTECODE = 1
export KGUARD_TEST_KERAS = required

BACKENDS = oldest torch jax averaging
TESTS_OF_averaging = tests/python/test_explanation.py tests/python/test_loss_history.py
EXAMPLES = range_regression cox actor_critic gan

.PHONY: $(addprefix backend-,$(BACKENDS)) demo examples test test-backends test-all benchmark benchmark-hooks benchmark-recording benchmark-external benchmark-rescue \
	benchmark-rescue-more benchmark-rescue-held-out benchmark-spike detection table install document format \
	lint types pytest rcheck coverage r-checks package clean setup-demo \
	setup-examples setup-test

demo: setup-demo install
	@R_LIBS=$(RLIB):$$R_LIBS Rscript examples/rescue.R

# The pictures that stay are those of Python.
examples: setup-examples install
	@for name in $(EXAMPLES); do \
		echo "---------------- $$name.R" && R_LIBS=$(RLIB):$$R_LIBS Rscript examples/$$name.R && \
		echo "---------------- $$name.py" && $(PYTHON) examples/$$name.py || exit 1; \
	done

# Two things at a time, which wait for each other in no way; each is told as a whole.
TWO_AT_A_TIME = @$(MAKE) --no-print-directory --jobs=2 --output-sync=target

test: setup-test lint types pytest package r-checks
	@echo "all checks passed"

test-backends: setup-test
	$(TWO_AT_A_TIME) $(addprefix backend-,$(BACKENDS))
	@echo "all backends passed"

test-all: setup-test lint types package
	$(TWO_AT_A_TIME) pytest $(addprefix backend-,$(BACKENDS)) r-checks
	@echo "all checks passed, on all backends"

$(addprefix backend-,$(BACKENDS)):
	tools/backends.sh $(@:backend-%=%) $(TESTS_OF_$(@:backend-%=%))

benchmark: setup-test
	$(PYTHON) benchmarks/overhead.py --picture benchmarks/overhead.png

benchmark-hooks: setup-test install
	R_LIBS=$(RLIB):$$R_LIBS Rscript benchmarks/hooks.R

benchmark-recording: setup-test
	$(PYTHON) benchmarks/recording.py

benchmark-external: setup-test install
	$(PYTHON) benchmarks/external_loss.py
	R_LIBS=$(RLIB):$$R_LIBS Rscript benchmarks/external_loss.R

benchmark-rescue: setup-test
	$(PYTHON) benchmarks/rescue.py --picture benchmarks/rescue.png --methods \
		"none;EarlyStopping;ReduceLROnPlateau, TerminateOnNaN;clipping;clipping, plateau, EarlyStopping;RevertToBestOnIncrease;SpikeGuard"

benchmark-rescue-more: setup-test
	$(PYTHON) benchmarks/rescue.py --tasks more

benchmark-rescue-held-out: setup-test
	$(PYTHON) benchmarks/rescue.py --tasks held-out

detection: setup-test
	$(PYTHON) tests/python/spike_detection.py

benchmark-spike: setup-test
	$(PYTHON) benchmarks/spike_cost.py

table: setup-test
	PYTHONPATH=$(CURDIR) $(PYTHON) tests/python/learning_rate_table.py
	tools/backends.sh jax run tests/python/learning_rate_table.py
	tools/backends.sh torch run tests/python/learning_rate_table.py

setup-demo:
	@tools/setup.sh demo

setup-examples:
	@tools/setup.sh examples

setup-test:
	@tools/setup.sh test

install: $(RLIB)/kguard/DESCRIPTION

$(RLIB)/kguard/DESCRIPTION: $(SOURCES)
	@mkdir -p $(RLIB)
	@tools/build.sh --no-build-vignettes > build/build.log 2>&1 || { cat build/build.log; exit 1; }
	@R CMD INSTALL --library=$(RLIB) build/kguard_*.tar.gz > build/install.log 2>&1 \
		|| { cat build/install.log; exit 1; }

document:
	Rscript tools/roxygen.R

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	Rscript tools/lint.R
	Rscript tools/roxygen.R --check
	Rscript tools/spelling.R

types:
	$(PYTHON) -m mypy

pytest:
	$(PYTHON) -m pytest

# The wheel holds every module of the core, and imports without the checkout.
package:
	tools/check-wheel.sh

# At least 95 % of the lines in R/ are run by the tests.
coverage:
	Rscript tools/coverage.R

rcheck:
	Rscript tools/check.R

# One after the other: both build the tarball.
r-checks:
	@$(MAKE) --no-print-directory coverage
	@$(MAKE) --no-print-directory rcheck

clean:
	rm -rf build .venv .venv-* *.egg-info
