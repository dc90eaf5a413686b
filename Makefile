# Everything runs in .venv, made from requirements.lock (hashes checked).
PYTHON ?= python3
UV_VERSION = 0.13.9
PIP_AUDIT_VERSION = 2.10.1
BIN = .venv/bin
CLUSTER_PREFIX ?= /opt/plexrank-cluster

# Compiled once, not by every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install test fuzz soak cluster-test peers-test report-test docs demo bench lint lock audit test-other test-lowest \
	wheelhouse clean

install: .venv/installed

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)

.venv/installed: requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# One worker a core, each with one thread: two threads on a contended core are slower than one.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Real Slurm and Apptainer on this machine: needs root and Debian 12, and installs what is missing.
cluster-test: install
	tests/cluster/install.sh $(CLUSTER_PREFIX)
	OMP_NUM_THREADS=1 PLEXRANK_CLUSTER_PREFIX=$(CLUSTER_PREFIX) $(BIN)/python -m pytest -n 0 -p no:randomly --durations=10 tests/cluster

# Pages of whole tiny runs in a browser: needs Chromium, and the real images beside this folder where they are to be used.
report-test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --durations=5 tests/report_runs

# Faults, kills, full disks, rounds of the lock: hours; goes on where it was stopped, and writes the table of docs/trust.md.
SOAK ?=
soak: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/trust/soak.py --again $(SOAK)
	$(BIN)/python tests/trust/soak.py --table

# MultiQC, scanpy, napari's reader, the built wheel and the site, in an environment of their own.
peers-test: .venv-peers/installed
	OMP_NUM_THREADS=1 .venv-peers/bin/python -m pytest -n auto --dist loadfile tests/peers

# Broken inputs for every reader: FUZZ="--seconds 600 --seed 1"; the table goes into docs/trust.md.
FUZZ ?= --seconds 300
fuzz: install
	PYTHONPATH=tests/fuzz:tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzzing --page docs/trust.md --save fuzz-findings $(FUZZ)

docs: .venv-peers/installed
	NO_MKDOCS_2_WARNING=1 .venv-peers/bin/python -m mkdocs build --strict

.venv-peers/installed: requirements-peers.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-peers
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-peers/bin/python --require-hashes -r requirements-peers.lock
	$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/plexrank demo

# One line of JSON for each; see benchmarks/README.md.
bench: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tiling.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/attribution.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ranking.py

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Resolve again within pyproject.toml, which needs no install; the lock carries hashes and no index address.
lock: $(BIN)/uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 \
		--no-header --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra peers --constraint requirements.lock --universal --generate-hashes \
		--python-version 3.11 --no-header --upgrade --output-file requirements-peers.lock

# Known vulnerabilities of all locked versions; needs PyPI's own service, which mirrors lack (they fail here).
audit: $(BIN)/uv
	$(BIN)/uv tool run pip-audit@$(PIP_AUDIT_VERSION) --strict --disable-pip --require-hashes -r requirements.lock

# The whole suite with another Python (its version or path), and with the lowest versions that pyproject.toml allows.
OTHER ?= 3.13
test-other: $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python $(OTHER) .venv-other
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-other/bin/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python .venv-other/bin/python --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 .venv-other/bin/python -m pytest -n auto --dist loadfile

test-lowest: $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	printf 'pandas>=2.2,<3\nome-zarr>=0.18\n' | $(BIN)/uv pip compile pyproject.toml --extra dev --resolution lowest-direct \
		--python $(BIN)/python --override - --output-file .venv-lowest/requirements.txt --quiet
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-lowest/bin/python -r .venv-lowest/requirements.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto --dist loadfile

# All wheels in one folder, for machines without internet: pip install --no-index --find-links wheelhouse ...
wheelhouse: install
	$(BIN)/python -m pip download --require-hashes --requirement requirements.lock --dest wheelhouse
	$(BIN)/python -m pip download uv==$(UV_VERSION) --dest wheelhouse
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheelhouse .

clean:
	rm -rf .venv .venv-* site wheelhouse plexrank-demo fuzz-findings .pytest_cache .mypy_cache .ruff_cache
