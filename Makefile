# Everything runs in .venv; only Python 3.11 (or newer), pip and make are needed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,robosuite,docs
# An index to take torch from, for example the CPU builds (see the README); empty takes pip's own.
TORCH_INDEX ?=
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo smoke test slow lint docs lipschitz newest clean

help:
	@echo "make demo    install, then run the whole job: demonstrations, policy, robustness report, twin"
	@echo "make smoke   the same in about 20 seconds, to see that the parts fit"
	@echo "make test    the default test suite"
	@echo "make slow    the tests that take minutes"
	@echo "make lint    ruff, pyright, import-linter"
	@echo "make docs    the documentation, into site/"
	@echo "make lipschitz  every table and figure of docs/lipschitz.md anew: hours, BUDGET=smoke for minutes; resumes"
	@echo "make newest  the default suite with the newest version of every dependency, in .venv-newest"
	@echo "make clean   remove what make made"

# torch comes first, from its own index if there is one, so that the rest finds its pin met.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) --constraint constraints.txt torch)
	$(PIP) --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

demo: $(STAMP)
	$(BIN)/fermo demo

smoke: $(STAMP)
	$(BIN)/fermo demo --smoke --folder runs/smoke

# A process for each processor: every test has one thread, see tests/conftest.py.
TEST := -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile
test: $(STAMP)
	$(BIN)/python $(TEST)

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout=3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

BUDGET := small
lipschitz: $(STAMP)
	for name in lipschitz-bounds cart-pole-trade-off lipschitz-trade-off lipschitz-smoothness; do \
	  $(BIN)/fermo reproduce $$name --budget $(BUDGET) --resume || exit; \
	done

# robosuite pins an old numpy, so it is left out here. A torch that is already there, or that TORCH_INDEX gave, stays.
NEWEST := $(VENV)-newest
newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(if $(TORCH_INDEX),$(NEWEST)/bin/python -m pip install --quiet --upgrade --index-url $(TORCH_INDEX) torch)
	$(NEWEST)/bin/python -m pip freeze | grep '^torch==' > $(NEWEST)/torch.txt || true
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --constraint $(NEWEST)/torch.txt --editable ".[dev,docs]"
	NO_MKDOCS_2_WARNING=1 $(NEWEST)/bin/mkdocs build --strict
	$(NEWEST)/bin/python $(TEST)

clean:
	rm -rf $(VENV) $(VENV)-newest site build dist .pytest_cache .ruff_cache .hypothesis
