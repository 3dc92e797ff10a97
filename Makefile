# Every target works on its own from a fresh checkout: it builds what it needs of $(VENV) first.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
GPU_PYTHON ?= 3.12
JOBS ?= 2
LOWEST := .venv-lowest

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --constraint $(CONSTRAINTS)
PINS := $(CONSTRAINTS) setup.cfg pyproject.toml tools/install_detectron2.py tools/probe_detectron2.py
CODE := $(wildcard projects tools benchmarks tests configs train_net.py)
WHEELS := $(wildcard wheels/*.whl)
GPU_SITE := .gpu-site

.DEFAULT_GOAL := help
.PHONY: help demo bench bench-data bench-startup gpu-wheels gpu-check test test-long test-lowest lint format clean
# Two pips must not write to one environment.
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo "make demo           run the demo        (DEMO_ARGS=... for tools/demo.py)"
	@echo "make bench          measure the step    (BENCH_ARGS=... for benchmarks/bench_step.py)"
	@echo "make bench-data     measure the data    (BENCH_ARGS=... for benchmarks/bench_data.py)"
	@echo "make bench-startup  measure a start     (BENCH_ARGS=... for benchmarks/bench_startup.py)"
	@echo "make gpu-check      answer all questions that need a GPU in 8 minutes, without a network if"
	@echo "                    wheels/ is there    (GPU_ARGS=... for benchmarks/gpu_check.py)"
	@echo "make gpu-wheels     fill wheels/ for it (GPU_PYTHON=3.12 and, to leave out what the GPU's"
	@echo "                    machine has, GPU_HAS='torch torchvision ...')"
	@echo "make test           run the tests       (JOBS=2 at a time, PYTEST_ARGS=... for pytest)"
	@echo "make test-long      run the long tests"
	@echo "make test-lowest    run the tests with the lowest versions that setup.cfg accepts"
	@echo "make lint           check formatting and style"
	@echo "make format         format the code"
	@echo "make clean          remove the environments, caches and build leftovers"
	@echo "The first run installs the environment into $(VENV) with $(PYTHON) (3.11 or newer);"
	@echo "PYTHON=... and VENV=... choose others."

demo: $(VENV)/.demo
	$(PY) -W ignore tools/demo.py $(DEMO_ARGS)

bench: $(VENV)/.demo
	$(PY) -W ignore benchmarks/bench_step.py $(BENCH_ARGS)

bench-data: $(VENV)/.demo
	$(PY) -W ignore benchmarks/bench_data.py $(BENCH_ARGS)

bench-startup: $(VENV)/.demo
	$(PY) -W ignore benchmarks/bench_startup.py $(BENCH_ARGS)

# Python alone: what is downloaded is for another one.
gpu-wheels: $(VENV)/.created
	$(PY) benchmarks/gpu_wheels.py download --python $(GPU_PYTHON) --has $(GPU_HAS)

ifneq ($(WHEELS),)
gpu-check:
	PYTHONPATH= "$(PYTHON)" benchmarks/gpu_wheels.py install --target $(GPU_SITE)
	PYTHONPATH=$(CURDIR)/$(GPU_SITE):$(CURDIR)/projects \
		"$(PYTHON)" -W ignore benchmarks/gpu_check.py $(GPU_ARGS)
else
gpu-check: $(VENV)/.demo
	$(PY) -W ignore benchmarks/gpu_check.py $(GPU_ARGS)
endif

# Processes side by side with several threads each crawl.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -m 'not long' -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-long: $(VENV)/.test
	$(PY) -m pytest -q -m long $(PYTEST_ARGS)

test-lowest: $(LOWEST)/constraints.txt
	@$(MAKE) test VENV=$(LOWEST) CONSTRAINTS=$<

lint: $(VENV)/.test
	$(PY) -m black --check $(CODE)
	$(PY) -m isort --check $(CODE)
	$(PY) -m flake8 $(CODE)

format: $(VENV)/.test
	$(PY) -m isort --quiet $(CODE)
	$(PY) -m black --quiet $(CODE)

clean:
	rm -rf $(VENV) $(LOWEST) $(GPU_SITE) build dist projects/*.egg-info .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOWEST)/constraints.txt: setup.cfg tools/lowest_versions.py
	@mkdir -p $(@D)
	@"$(PYTHON)" tools/lowest_versions.py > $@

$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "Python not found: '$(PYTHON)'; pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	@echo "==> creating $(VENV)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.created $(PINS)
	@echo "==> installing PyTorch (a download of some GB the first time)"
	@$(INSTALL) torch torchvision setuptools wheel
	@touch $@

# Source-only requirements build with the pinned setuptools and wheel installed above.
# OpenCV's own build opens windows and so links libGL, which servers and containers often lack.
$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: $(VENV)/.base
	@echo "==> installing soft-teacher[$*] and what it needs"
	@$(INSTALL) --no-build-isolation --editable '.[$*]'
	@$(PY) -c 'import cv2' 2>/dev/null || { \
		echo "==> OpenCV does not load here, taking its build without windows"; \
		$(PIP) uninstall --yes opencv-python && \
		$(INSTALL) --no-deps --force-reinstall opencv-python-headless && \
		$(PY) -c 'import cv2'; }
	@echo "==> installing Detectron2"
	@$(PY) tools/install_detectron2.py
	@touch $@
