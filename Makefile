# make run          one PALS run on the simulator        make test       tests (minutes)
# make compare      PALS against its rivals              make test-long  the slow tests
# make lint         ruff and mypy                        make test-live  against a real vLLM server
# make plots        the plot of the comparison           make physics    tables and plots of docs/physics.md
# make test-vllm-versions  the plug-in's contract on several vLLM releases (hours; gigabytes)
# make figures      the paper's figures and claims, and docs/reproduction.md
# `make physics` reads the measured data in $PALS_DATA, or ARGS="data=DIR" (docs/physics.md: where from).
# Each creates .venv first if it is not there.  ARGS="seed=3 duration=60" reaches the command.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: run compare plots physics figures test test-long test-live test-vllm-versions lint format venv clean

run: venv
	$(BIN)/python -m experiments.run controller=pals $(ARGS)

compare: venv
	$(BIN)/python -m experiments.compare $(ARGS)

plots: venv
	$(BIN)/python -m experiments.compare \
	    controllers=[static,adaptive_batch,adaptive_cap,pals,governor,oracle] \
	    hydra.run.dir=outputs/plots $(ARGS)
	cp outputs/plots/comparison.png docs/images/comparison.png

figures: venv
	$(BIN)/python -m experiments.figures figure=all page=docs/reproduction.md $(ARGS)

physics: venv
	$(BIN)/python -m experiments.physics page=docs/physics.md hydra.run.dir=outputs/physics $(ARGS)

test: venv
	$(BIN)/python -m pytest -q $(ARGS)

test-long: venv
	$(BIN)/python -m pytest -q -m "long and not live" $(ARGS)

test-live:
	.ci/test-live $(ARGS)

test-vllm-versions: venv
	$(BIN)/python tests/live/vllm_versions.py $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

# The stamp depends on nothing: an environment that is there is left as it is. To renew it,
# `make clean` first.
$(STAMP):
	@.ci/make-venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
