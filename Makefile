# Needs a CPython 3.11, 3.12 or 3.13 with venv, and a package index. Everything goes into .venv; nothing else is touched.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: quickstart test lint bench clean help

help:
	@echo "make quickstart   set up .venv, run sweeps/quickstart.yaml, write results/quickstart/report.html"
	@echo "make test         set up .venv, lint, run all tests"
	@echo "make lint         ruff only"
	@echo "make bench        set up .venv-peers beside it, measure against transformers and TRL, write docs/performance.md"
	@echo "make clean        remove .venv and .venv-peers; the store and the results stay"

quickstart: $(VENV)/installed
	$(BIN)/python -m scaling.sweep sweeps/quickstart.yaml

test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: setup.cfg pyproject.toml | python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . || { $(INSTALL_FAILED); }
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' || { $(INSTALL_FAILED); }
	touch $@

# Half an hour on two quiet cores. On Linux x86-64 the default index brings torch with CUDA (several GB); for the CPU build:
# make bench PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
PEERS = 'torch==2.13.0' 'transformers>=5.23,<6' 'trl>=1.16,<2' 'safetensors>=0.8,<0.9' 'numpy>=2.4,<3'
bench: $(VENV)/installed $(VENV)-peers/installed
	$(BIN)/python -m benchmarks.everything --peer $(abspath $(VENV)-peers)/bin/python

$(VENV)-peers/installed: | python
	test -x $(VENV)-peers/bin/python || $(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check $(PEERS) || { $(INSTALL_FAILED); }
	touch $@

INSTALL_FAILED = echo "error: the packages could not be installed. The set-up needs a package index (pip's default, or" \
	"PIP_INDEX_URL) and about 2 GB of disk; pip's own message is above." >&2; exit 1

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "error: no CPython 3.11, 3.12 or 3.13 with venv and pip was found. Install one (Debian:" \
	"apt install python3 python3-venv; macOS: brew install python@3.12), or name it: make test PYTHON=/path/to/python3.12" >&2; exit 1; }

clean:
	rm -rf $(VENV) $(VENV)-peers
