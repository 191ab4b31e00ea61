# make demo: the whole product on real data. make test: the proof.
PYTHON ?= python3
VENV ?= .venv
TORCH_VERSION ?= 2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALL = PYTHON=$(PYTHON) VENV=$(VENV) TORCH_VERSION=$(TORCH_VERSION) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) sh scripts/install.sh

.PHONY: help demo test test-slow test-pandas3 check install install-dev audit clean up down key backup restore stack compose-check compose-test

help:
	@echo "make demo       install, train on 144 months of real air passengers, promote, serve, print a forecast"
	@echo "make test       run the tests (a few minutes)"
	@echo "make test-slow  run the tests that take longer"
	@echo "make test-pandas3  run the library's tests with pandas 3 and without statsforecast"
	@echo "make check      run the linters and the type checker"
	@echo "make audit      ask for known vulnerabilities of what is pinned"
	@echo "make install    only make the virtual environment $(VENV)"
	@echo "make up         start the whole system in containers: PostgreSQL, MLflow, service, scheduler"
	@echo "make down       stop it; what it has learned stays"
	@echo "make key NAME=who    make one more API key of the service in containers"
	@echo "make backup     copy database and models of the containers into backups/; make restore FROM=folder puts them back"
	@echo "make stack      the same four without containers, for development; Ctrl-C stops them"
	@echo "make compose-check   look at everything the containers are made from; needs no engine"
	@echo "make compose-test    prove the containers on an engine: start, kill, promote, stop"

install:
	@$(INSTALL) pipelines,service

install-dev:
	@$(INSTALL) pipelines,service,otel,dev

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

# Passwords, an API key and recipes to edit are made by the one-shot service `setup`, in folders of whoever runs this.
up:
	@mkdir -p secrets recipes
	docker compose up -d --build --wait --wait-timeout 900
	@echo
	@echo "service  http://$$(docker compose port service 8000)/docs   with the API key in secrets/api_key"
	@echo "MLflow   http://$$(docker compose port mlflow 5000)/?workflowType=machine_learning"
	@echo "A new system trains its first champions now; see: docker compose logs -f scheduler"

down:
	docker compose --profile '*' down

key:
	@docker compose run --rm --no-deps -T setup key "$(NAME)"

backup:
	@scripts/backup.sh

restore:
	@scripts/restore.sh "$(FROM)"

# Without containers, for development: PostgreSQL from the local programs, MLflow, scheduler, service.
stack: install
	@$(VENV)/bin/python scripts/stack.py $(STACK)

# Known vulnerabilities of what is pinned; lets the build go on where nobody can be asked.
audit: install-dev
	$(VENV)/bin/python scripts/audit.py

compose-check: install-dev
	@$(VENV)/bin/python scripts/compose_check.py

compose-test:
	@$(PYTHON) scripts/compose_test.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
