# make demo: the whole product on real data. make test: the proof.
PYTHON ?= python3
VENV ?= .venv
TORCH_VERSION ?= 2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALL = PYTHON=$(PYTHON) VENV=$(VENV) TORCH_VERSION=$(TORCH_VERSION) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) sh scripts/install.sh

.PHONY: help demo test test-slow test-pandas3 check install install-dev clean

help:
	@echo "make demo       install, train on 144 months of real air passengers, promote, serve, print a forecast"
	@echo "make test       run the tests (a few minutes)"
	@echo "make test-slow  run the tests that take longer"
	@echo "make test-pandas3  run the library's tests with pandas 3 and without statsforecast"
	@echo "make check      run the linters and the type checker"
	@echo "make install    only make the virtual environment $(VENV)"

install:
	@$(INSTALL) pipelines,service

install-dev:
	@$(INSTALL) pipelines,service,dev

demo: install
	@$(VENV)/bin/forecast demo

test: install-dev
	$(VENV)/bin/python -m pytest -m "not slow"

test-slow: install-dev
	$(VENV)/bin/python -m pytest -m slow

# The library alone on the next pandas, which neither MLflow nor statsforecast allow yet.
test-pandas3:
	@mkdir -p build && sed '/^pandas==/d' constraints.txt > build/constraints-pandas3.txt
	@CONSTRAINTS=build/constraints-pandas3.txt $(subst VENV=$(VENV),VENV=$(VENV)-pandas3,$(INSTALL)) onnx,report,dev
	$(VENV)-pandas3/bin/python -m pytest -m "not slow" tests/forecast

check: install-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy forecast pipelines service tests benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
