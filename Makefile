# make run: the chat example at http://127.0.0.1:8080/     make test: everything     make check: linters and types
# make bench: against other servers     make guard: instructions of the hot paths     make ci-long: soak, fuzzing
# make audit: known vulnerabilities     make lock: renew requirements-dev.lock     make fuzz, fuzz-tcp: for FUZZ_SECONDS
# make clean: what was built
#
# Needs python3 (3.11 or newer, with venv); npm is used where it is there. A step is done again only when what
# it depends on has changed: delete .venv or node_modules to start afresh.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
PYTEST_ARGS ?= -n 2
LOCK_ARGS ?= --upgrade
FUZZ_SECONDS ?= 300

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
FUZZ := PYTHONPATH=.:tests $(BIN)/python -m fuzz
NPM := $(shell command -v npm 2>/dev/null)

# The page, and the library that it uses; without node_modules the page takes it from a CDN.
STATIC := /=examples/chat/page,/stompjs=node_modules/@stomp/stompjs/bundles

.DEFAULT_GOAL := help
.PHONY: help run test check page bench guard lock audit fuzz fuzz-tcp clean
.PHONY: ci-long test-long hypothesis-long soak-minute fuzz-wire-minutes fuzz-decoder-million fuzz-minutes import-time

help:
	@head -4 Makefile | cut -c3-

run: $(VENV)/.package page
	@TRIO_STOMP_STATIC="$(STATIC)" $(BIN)/trio-stomp serve examples.chat.app:app --host $(HOST) --port $(PORT)

# Coverage is printed whether the tests pass or not; the result is pytest's.
test: check page
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS); result=$$?; \
		$(BIN)/coverage combine --quiet && $(BIN)/coverage report; \
		exit $$result

# The decoder and the front door, each for FUZZ_SECONDS, guided by coverage; make fuzz-tcp: a running server.
fuzz: $(VENV)/.dev
	@echo "installing atheris into $(VENV)"; $(PIP) --editable '.[fuzz]' || { \
		echo "atheris cannot be installed here (it has wheels for Linux): the decoder is fuzzed without its guidance"; \
		$(FUZZ).decoder --inputs 10000000; exit $$?; }; \
	$(FUZZ).guided decoder --seconds $(FUZZ_SECONDS) && $(FUZZ).guided front --seconds $(FUZZ_SECONDS)

fuzz-tcp: $(VENV)/.dev
	@$(FUZZ).tcp --seconds $(FUZZ_SECONDS)

check: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy trio_stomp

# Ours and every peer that can be made here in turn, and how costs grow: an hour and a half; and the page of it.
# `make bench BENCH_ARGS=--resume` goes on where it was interrupted.
bench: $(VENV)/.dev
	@$(BIN)/python bench/compare.py --json bench/peers/results.jsonl $(BENCH_ARGS); result=$$?; \
		PYTHONPATH=. $(BIN)/python bench/performance.py bench/peers/results.jsonl && \
		PYTHONPATH=. $(BIN)/python bench/growth.py --docs && exit $$result

# Instructions of the hot paths, against the baseline; a minute, with valgrind.
guard: $(VENV)/.dev
	@$(BIN)/python bench/guard.py

# What takes minutes, beside `make test`: 20 at most, all of it on this machine.
ci-long: check test-long hypothesis-long soak-minute fuzz-wire-minutes fuzz-decoder-million fuzz-minutes import-time

test-long: $(VENV)/.dev
	@$(BIN)/python -m pytest -m long

hypothesis-long: $(VENV)/.dev
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest $(PYTEST_ARGS) tests/test_fuzz.py

soak-minute: $(VENV)/.dev
	@$(BIN)/python bench/soak.py --seconds 60

fuzz-wire-minutes:
	@$(MAKE) --no-print-directory fuzz-tcp FUZZ_SECONDS=120

fuzz-decoder-million: $(VENV)/.dev
	@PYTHONPATH=.:tests $(BIN)/python -m fuzz.decoder --inputs 1000000

fuzz-minutes:
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=60

import-time: $(VENV)/.dev
	@$(BIN)/python bench/import_time.py

# Renews the lock: the newest releases that pyproject.toml allows, for every system and Python, with their hashes.
# `make lock LOCK_ARGS=` changes only what pyproject.toml asks for and the lock does not have.
lock: $(VENV)/.supply
	@UV_CUSTOM_COMPILE_COMMAND='make lock' $(VENV)/supply/bin/uv pip compile --quiet $(LOCK_ARGS) --extra dev \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--output-file requirements-dev.lock pyproject.toml

# Asks PyPI for known vulnerabilities of what is locked. Exit status 1: there are; 2: it could not be found out.
audit: $(VENV)/.supply
	@$(VENV)/supply/bin/python .ci/audit.py $(VENV)/supply/bin/pip-audit requirements-dev.lock

page:
ifeq ($(NPM),)
	@echo "npm is not here: the page takes @stomp/stompjs from a CDN, tests that need Node are skipped"
else
	@$(MAKE) --no-print-directory --silent node_modules/.installed || \
		{ test -z "$$CI" && echo "npm could not install: the page takes @stomp/stompjs from a CDN"; }
endif

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trio-stomp needs Python 3.11 or newer")'
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.made
	@echo "installing trio-stomp into $(VENV)"
	@$(PIP) --editable .
	@touch $@

# Exactly what requirements-dev.lock says, the build of trio-stomp included: a new release of a tool breaks nothing.
$(VENV)/.dev: pyproject.toml requirements-dev.lock $(VENV)/.made
	@echo "installing trio-stomp and its tests' tools into $(VENV)"
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.package $@

$(VENV)/.supply: $(VENV)/.made
	@$(PYTHON) -m venv --clear $(VENV)/supply
	@$(VENV)/supply/bin/python -m pip --disable-pip-version-check install --quiet 'uv>=0.5' 'pip-audit>=2.7'
	@touch $@

node_modules/.installed: package.json package-lock.json
	@echo "installing $< into node_modules"
	@$(NPM) ci --silent --no-audit --no-fund
	@touch $@

# WebSocket conformance by Autobahn's own client, for which it takes a Python 2.7 with pip.
.PHONY: autobahn
autobahn: $(VENV)/.dev
	@AUTOBAHN_PYTHON="$(AUTOBAHN_PYTHON)" $(BIN)/python tests/autobahn_suite.py --write

clean:
	rm -rf $(VENV) .autobahn node_modules .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
