# make demo            trains four ways on the diamonds and writes examples/rescue.png
# make test            runs every check
# make test-backends   runs the Python suite on JAX, on PyTorch and with older versions of Keras
# make benchmark       measures what the guards cost and writes benchmarks/overhead.png
# make benchmark-hooks measures what callbacks cost in R for each batch
# make benchmark-recording measures what a LossHistory costs for each batch
# make benchmark-external measures what an external loss costs for each batch
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

.PHONY: demo test test-backends benchmark benchmark-hooks benchmark-recording benchmark-external table install document format \
	lint types pytest rcheck coverage package clean setup-demo setup-test

demo: setup-demo install
	@R_LIBS=$(RLIB):$$R_LIBS Rscript examples/rescue.R

test: setup-test lint types pytest package coverage rcheck
	@echo "all checks passed"

test-backends: setup-test
	tools/backends.sh torch
	tools/backends.sh jax
	tools/backends.sh oldest
	tools/backends.sh averaging tests/python/test_explanation.py tests/python/test_loss_history.py
	@echo "all backends passed"

benchmark: setup-test
	$(PYTHON) benchmarks/overhead.py --picture benchmarks/overhead.png

benchmark-hooks: setup-test install
	R_LIBS=$(RLIB):$$R_LIBS Rscript benchmarks/hooks.R

benchmark-recording: setup-test
	$(PYTHON) benchmarks/recording.py

benchmark-external: setup-test
	$(PYTHON) benchmarks/external_loss.py

table: setup-test
	PYTHONPATH=$(CURDIR) $(PYTHON) tests/python/learning_rate_table.py
	tools/backends.sh jax run tests/python/learning_rate_table.py
	tools/backends.sh torch run tests/python/learning_rate_table.py

setup-demo:
	@tools/setup.sh demo

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

clean:
	rm -rf build .venv .venv-* *.egg-info
