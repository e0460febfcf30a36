# `make train` and `make test` do all the set-up: they need Python 3.11+ and a package index.
ifndef PYTHON
# The newest one that starts and makes virtual environments: what a version manager puts on the path may not.
usable = $(shell $(1) -c "import ensurepip, sys; assert sys.version_info >= (3, 11)" 2>/dev/null && echo $(1))
PYTHON := $(firstword $(foreach python,python3.13 python3.12 python3.11 python3,$(call usable,$(python))))
ifeq ($(PYTHON),)
$(error no Python of 3.11 or newer with ensurepip is on the path: install one, or name it with PYTHON=)
endif
endif
BIN := .venv/bin
# The newest versions that a Python has: JAX, NumPy and SciPy ended with 3.11 before their present ones.
CONSTRAINTS := $(shell $(PYTHON) -c "import sys; print('constraints.txt' if sys.version_info < (3, 12) else 'constraints-3.12.txt')")

.PHONY: train test check slow lint format site lm-example bench-peers bench-masks bench-memory bench-pixels bench-own bench-language documented mutants matrix clean

train: .venv/base
	$(BIN)/proximo train CartPole-v1 --until 475

test: .venv/ready lint
	$(BIN)/pytest -n auto --dist loadfile

# Before a commit: the same without the tests that take seconds each.
check: .venv/ready lint
	$(BIN)/pytest -n auto --dist loadfile -m "not slow"

# Measures which tests those are.
slow: .venv/ready
	$(BIN)/pytest -n auto --dist loadfile --junitxml=.pytest_cache/report.xml
	$(BIN)/python -m tests.slow .pytest_cache/report.xml

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict --follow-imports=silent proximo/core
	$(BIN)/mypy proximo

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site, which needs neither a server nor a network: open build/site/index.html.
site: .venv/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/site

# A language model from nothing: texts, preferences, a reward model, PPO, DPO and GRPO; minutes on a CPU.
lm-example: .venv/language
	rm -rf runs/sentiment
	$(BIN)/python -m examples.language.sentiment --out runs/sentiment

# Proximo next to Stable-Baselines3 and SBX, interleaved in one run.
bench-peers: .venv/ready .venv-peers/ready
	$(BIN)/python -m benchmarks.peers

# Masks of legal actions: Proximo next to sb3-contrib's MaskablePPO.
bench-masks: .venv/ready .venv-peers/ready
	$(BIN)/python -m benchmarks.masks

# Policies with an LSTM next to sb3-contrib's RecurrentPPO, interleaved in one run.
bench-memory: .venv/ready .venv-peers/ready
	$(BIN)/python -m benchmarks.memory

# Convolutions, and training of Pong, next to PyTorch and Stable-Baselines3.
bench-pixels: .venv/ready .venv-peers/ready
	$(BIN)/python -m benchmarks.pixels

# The defaults of both libraries on environments that nobody tuned them for.
bench-own: .venv/ready .venv-peers/ready
	$(BIN)/python -m benchmarks.own_environments

# Proximo next to TRL and transformers, interleaved in one run.
bench-language: .venv/ready .venv-peers-language/ready
	$(BIN)/python -m benchmarks.language

# Every command of README and docs, in a short variant; minutes.
documented: .venv/ready
	$(BIN)/python -m tests.documented

# Turn signs round in `core`, one at a time, and see a test fail for each.
mutants: .venv/ready
	$(BIN)/python -m tests.mutate

# Every observation with every action, network and mask; hours. It goes on where it was stopped.
matrix: .venv/ready
	$(BIN)/python -m tests.matrix

.venv/base: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable .
	touch $@

.venv/language: .venv/base
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable ".[language]"
	touch $@

.venv/site: .venv/base
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable ".[site]"
	touch $@

.venv/ready: .venv/base
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable ".[dev]"
	touch $@

.venv-peers/ready: benchmarks/constraints-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --upgrade pip
	.venv-peers/bin/pip install --quiet --constraint benchmarks/constraints-peers.txt torch
	.venv-peers/bin/pip install --quiet --constraint benchmarks/constraints-peers.txt stable-baselines3 sb3-contrib sbx-rl ale-py opencv-python-headless "gymnasium[mujoco]"
	touch $@

.venv-peers-language/ready: benchmarks/constraints-language-peers.txt
	$(PYTHON) -m venv .venv-peers-language
	.venv-peers-language/bin/pip install --quiet --upgrade pip
	.venv-peers-language/bin/pip install --quiet --constraint benchmarks/constraints-language-peers.txt torch trl
	touch $@

clean:
	rm -rf .venv .venv-peers .venv-peers-language .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
