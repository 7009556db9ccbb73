# Two commands for newcomers: `make quickstart` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-long smoke docs docs-serve lint types format image clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@ $(VENV)/.installed

quickstart: $(VENV)/.installed ## train, score and compare the seven bottlenecks on the demo corpus
	$(BIN)/codecbench run quickstart

# Three at a time, also on two cores: a quarter of the time a test waits for processes of its own.
test: $(VENV)/.installed-test ## all tests but the few of test-long
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.installed-test ## the few tests that take minutes each
	OMP_NUM_THREADS=1 $(BIN)/pytest -m long

smoke: $(VENV)/.installed ## a study of a minute, in a terminal of 80 columns and a folder of its own
	rm -rf $(VENV)/smoke && mkdir -p $(VENV)/smoke
	cd $(VENV)/smoke && $(BIN)/python $(CURDIR)/.ci/in_terminal.py 80 $(BIN)/codecbench run quickstart \
	  --set train.steps=10 --set train.warm_start.steps=10 --set 'evaluate.metrics=[pesq, stoi, mel_distance]' \
	  --set 'quantizers=[none, rvq, fsq, q2d2-hex]'

docs: $(VENV)/.installed-docs ## the documentation site in site/; broken links and anchors fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.installed-docs ## the same at http://127.0.0.1:8000, built again at each change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

lint: $(VENV)/.installed-test ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test ## mypy
	$(BIN)/mypy

format: $(VENV)/.installed-test ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BASE ?= python:3.11-slim
TORCH ?= cuda
IMAGE ?= codecbench
TORCH_INDEX_cpu = https://download.pytorch.org/whl/cpu

image: ## a container with codecbench, from BASE, with EXTRAS, TORCH=cuda or cpu; needs Docker
	docker build --build-arg BASE=$(BASE) --build-arg TORCH_INDEX=$(TORCH_INDEX_$(TORCH)) \
	  $(if $(EXTRAS),--build-arg EXTRAS=$(EXTRAS)) --tag $(IMAGE) .

clean: ## remove the virtual environment and caches, never your results
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
