# make demo     score a small export with the model in the box, and show what came out
# make test     the test suite, under 8 minutes on 2 cores
# make check    ruff, ruff format, mypy and hadolint
# make mutants  take out the lines that make the numbered rules true: do the tests see it?
# make help     everything else

PYTHON ?= python3
BIN := .venv/bin
# Also for what pip installs to build the package: the same install, a year from now.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALLED := setup.py pyproject.toml constraints.txt

.PHONY: demo test test-slow flink-test image-test mutants check deploy-check wheel bench bench-gpu fuzz
.PHONY: constraints clean help

demo: .venv/demo.stamp
	$(BIN)/python demo/assemble.py demo/export
	$(BIN)/python -m beam_pipeline score --input demo/export --output demo/results \
	  --eligibility demo/rules.toml
	$(BIN)/python demo/show.py demo/results

# A process a core, each with one thread for linear algebra: more of them wait for each
# other. Neighbours share what is costly to make.
test: .venv/test.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/test.stamp
	$(BIN)/python -m pytest -m slow

# On a cluster of Flink that it starts: needs Java 11 or 17, and Maven the first time.
# Another Flink: FLINK_VERSION=2.2.1 JOB_SERVER_JAR=FILE; docs/flink.md.
flink-test: .venv/test.stamp
	$(BIN)/python -m pytest -m flink tests/flink

# The Dockerfile's steps in a bare Debian root: needs root, debootstrap, Go; 10 minutes.
image-test: .venv/dev.stamp
	$(BIN)/python tests/replay_image.py

mutants: .venv/test.stamp
	$(BIN)/python tests/mutants.py

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint --failure-threshold style Dockerfile

# Units, manifests, DAG and alarms, each by what will read them: needs systemd and
# promtool, as .ci/run installs them, and Airflow in an environment of its own.
deploy-check: .venv/test.stamp .venv-deploy/stamp
	REQUIRE_DEPLOY=1 $(BIN)/python -m pytest tests/deploy

wheel: .venv/test.stamp
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

# In an environment of its own: the peers need what this project does not.
bench: .venv-bench/stamp
	.venv-bench/bin/python -m benchmarks.throughput $(BENCH)

# On a machine with a GPU: are scores the CPU's, and does it wait? Exit code 2 without.
bench-gpu: .venv/cuda.stamp
	$(BIN)/python -m benchmarks.gpu $(BENCH_GPU)

# Half a million changed files, in half an hour on one core: docs/fuzzing.md.
fuzz: .venv/test.stamp
	$(BIN)/python -m benchmarks.fuzz --inputs 500000 --keep benchmarks/results/fuzz $(FUZZ)

# Pin the newest versions that fit together: after a change of setup.py, or to update.
constraints: .venv/dev.stamp
	$(BIN)/uv pip compile setup.py --all-extras --upgrade --quiet --no-annotate \
	  --no-header --python-version 3.11 --output-file constraints.txt

clean:
	rm -rf .venv .venv-bench .venv-deploy build dist *.egg-info demo/export demo/results

help:
	@grep -E '^[a-z-]+:' Makefile | cut -d: -f1

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/python $(INSTALLED)
	$(BIN)/pip install --quiet --editable . pydicom-data
	touch $@

.venv-bench/stamp: benchmarks/requirements.txt $(INSTALLED)
	$(PYTHON) -m venv .venv-bench
	grep -v '^setuptools==' constraints.txt > .venv-bench/constraints.txt
	PIP_CONSTRAINT=.venv-bench/constraints.txt .venv-bench/bin/pip install --quiet \
	  --requirement benchmarks/requirements.txt --editable '.[train]'
	touch $@

.venv-deploy/stamp: tests/deploy/requirements.txt .venv/dev.stamp
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-deploy
	$(BIN)/uv pip install --quiet --python .venv-deploy/bin/python \
	  --requirement tests/deploy/requirements.txt
	touch $@

.venv/%.stamp: .venv/bin/python $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@
