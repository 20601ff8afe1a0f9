# demo: set up, then the main job on the shipped sample.   test, cluster-test, check: what CI runs.   bench: timings, as ratios.
# docs: the documentation as a site, in site/; `.venv/bin/python -m mkdocs serve` shows it while you write.
# memo: every experiment of the memo on a part of the sample, with tiny checkpoints, to its three ensembles.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SAMPLE := data_prep/sample
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_OFFLINE ?= 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test test-floor wheel cluster-test check docs bench memo install clean-demo

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "blendfold needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

prepared/sample/manifest.json: $(SAMPLE)/train.csv $(SAMPLE)/test.csv | $(INSTALLED)
	$(VENV)/bin/blendfold prepare --train $(SAMPLE)/train.csv --test $(SAMPLE)/test.csv --scheme stratified_group --folds 4 --seed 42 --out prepared/sample

demo: $(INSTALLED) prepared/sample/manifest.json
	$(VENV)/bin/blendfold run studies/demo.yaml
	$(VENV)/bin/blendfold blend runs/demo --name demo --clip --force || [ $$? -eq 3 ]
	$(VENV)/bin/blendfold report runs/demo --blend demo

clean-demo:
	rm -rf prepared/sample runs/demo

# Two processes: one begins with the tests that start Ray, the other with the rest, and whichever is done first takes over.
test: $(INSTALLED)
	$(PY) -m pytest -n 2 --dist worksteal -m "not cluster"

# The lowest versions that a bundle predicts and a model trains with; several GB where torch brings CUDA. Left out is what they
# refuse (COCO-LM, and tokenizers that transformers 5.0 makes wrongly of the files of DeBERTa-v2, -v3 and LUKE, not of a bundle's),
# Funnel's fresh layers, whose norms transformers 5.0 does not reset, and a test of learning that depends on a random checkpoint.
FLOOR := .venv-floor
test-floor:
	$(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-floor.lock
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(FLOOR)/bin/python -m pytest tests/blend/test_write_bundle.py tests/models/text tests/models/parts tests/models/training \
	  -k "not cocolm and not deberta-v2 and not deberta-v3 and not luke \
	  and not sentencepiece_model_of_its_own and not (fresh_layers and funnel) and not separate_heads_learn"

# The same bytes from the same commit, whenever and wherever it is built.
wheel: $(INSTALLED)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# A whole cluster over SSH, on loopback; needs root, openssh-server and rsync, says what is missing.
cluster-test: $(INSTALLED)
	$(PY) -m pytest -m cluster

check: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Fails on a dead link; `make test` builds it, too.
docs: $(INSTALLED)
	$(PY) -m mkdocs build --strict --quiet

# BENCH_DATA: a larger prepared folder gives figures that mean more, such as prepared/pppm.
BENCH_DATA ?= prepared/sample
bench: $(INSTALLED) prepared/sample/manifest.json
	$(PY) benchmarks/bench_training.py --data $(BENCH_DATA)
	$(PY) benchmarks/bench_blend.py

memo: $(INSTALLED)
	$(PY) benchmarks/memo_on_sample.py
