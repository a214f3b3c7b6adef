# make run          one PALS run on the simulator        make test       tests (minutes)
# make compare      PALS against its rivals              make test-long  the slow tests
# make lint         ruff and mypy                        make test-live  against a real vLLM server
# make test-live-long  the whole of the live tests, also those that take minutes each
# make audit        dependencies' known vulnerabilities  make coverage   which lines tests run
#                   (ARGS="-m ''": with the slow and the live ones)
# make mutation ARGS="objectives --sample 40"  small changes of the code that no test notices
# make fuzz         10,000 configurations, 3,000 other choices, 5,000 files and 2,000 orders of calls, none of which may
#                   crash, hang or give nonsense (a night; PALS_FUZZ_SEED=N tries others)
# make plots        the plot of the comparison           make physics    docs/validation.md
# make test-vllm-versions  the plug-in's contract on several vLLM releases (hours; gigabytes)
# make docs         the documentation's site, in build/site
# make results      all pages and pictures with results, in order; make results SCALE=short in minutes
# make stale        which of them were made by other code (results.mk)
# make figures      the paper's figures and claims, and docs/reproduction.md
# `make physics` reads the measured data in $PALS_DATA, or ARGS="data=DIR" (docs/validation.md: where from).
# Each creates .venv first if it is not there.  ARGS="seed=3 duration=60" reaches the command.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := run
include results.mk

.PHONY: run compare plots physics figures test test-long test-live test-live-long test-vllm-versions \
    audit docs fuzz mutation coverage lint format venv clean

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
	$(BIN)/python -m experiments.physics page=docs/validation.md hydra.run.dir=outputs/physics $(ARGS)

test: venv
	$(BIN)/python -m pytest -q $(ARGS)

test-long: venv
	$(BIN)/python -m pytest -q -m "long and not live" $(ARGS)

fuzz: venv
	$(BIN)/python -m pytest -q -rP -m long tests/fuzz tests/envs/fuzz $(ARGS)

mutation: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target build/mutation cosmic-ray==8.7.0
	PYTHONPATH=$(CURDIR)/build/mutation:$(CURDIR) $(BIN)/python tests/mutants.py $(ARGS)

coverage: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check coverage==7.17.5
	$(BIN)/python -m coverage run -m pytest -q $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=92

test-live:
	.ci/test-live $(ARGS)

test-live-long:
	.ci/test-live --all $(ARGS)

test-vllm-versions: venv
	$(BIN)/python tests/live/vllm_versions.py $(ARGS)

audit: venv
	.ci/audit $(VENV)

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict $(ARGS)

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
