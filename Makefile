# Every task of the project; `make help` lists them.
# PYTHON=/path/to/python3 chooses the interpreter, ARGS="…" is handed on to the program or to pytest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest
ARGS ?=

.PHONY: help
help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- set-up and running ---

.PHONY: setup
setup: ## make .venv with everything to run, at .venv/bin/huoji (needs Python 3.11+)
	@python=$$(sh scripts/find_python.sh) && "$$python" scripts/setup.py

.PHONY: setup-dev
setup-dev: ## the same with everything for tests and checks
	@python=$$(sh scripts/find_python.sh) && "$$python" scripts/setup.py --dev

.PHONY: services
services: ## install PostgreSQL, Redis, Chromium, a font, nginx and promtool if missing (root on Debian only)
	@sh scripts/install_services.sh

.PHONY: run
run: setup ## set up, then start the demo: shop, knowledge, logins and sandbox
	@exec $(BIN)/huoji demo $(ARGS)

# --- checking ---

.PHONY: test
test: setup-dev services check ## set up, then every check and test that CI runs

.PHONY: check
check: lint types imports suites ## every check and test, without set-up

.PHONY: lint
lint: ## rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: fmt
fmt: ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: ## static types
	$(BIN)/pyright

.PHONY: imports
imports: ## layers go one way
	$(BIN)/lint-imports

.PHONY: suites
suites: ## all test suites, each kind in a process of its own
	@$(BIN)/python scripts/run_suites.py

.PHONY: unit
unit: ## unit tests
	$(PYTEST) tests/unit $(ARGS)

.PHONY: contract
contract: ## contracts that every channel and every storage must keep
	$(PYTEST) tests/contract $(ARGS)

.PHONY: property
property: ## properties, with generated input
	$(PYTEST) tests/property $(ARGS)

.PHONY: e2e
e2e: ## the real program, from outside and in a browser
	@$(BIN)/python scripts/run_suites.py e2e browser

.PHONY: chaos
chaos: ## kill, cut and flood the program
	@$(BIN)/python scripts/run_suites.py chaos

.PHONY: chaos-long
chaos-long: ## the same, with the rounds that take minutes
	HUOJI_CHAOS_LONG=1 $(PYTEST) tests/chaos -p no:playwright --timeout 3600 $(ARGS)
	$(BIN)/python -m tests.simulation --seeds 10000

.PHONY: check-image
check-image: ## run each step of the Dockerfile and its program in a clean folder (minutes)
	$(BIN)/python scripts/check_image.py $(ARGS)

.PHONY: coverage
coverage: ## branch coverage of everything but the other-process suites
	$(PYTEST) tests --ignore tests/e2e --ignore tests/chaos -p no:playwright --cov --cov-report term $(ARGS)

.PHONY: bench
bench: ## measure against the figures in docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

# --- keeping house ---

.PHONY: lock
lock: ## write the lock files afresh (UPGRADE=1: newest versions)
	@sh scripts/lock.sh

.PHONY: clean
clean: ## remove the environment and everything made by tools; ./var (data) stays
	rm -rf .venv build dist .coverage htmlcov .hypothesis .import_linter_cache .pytest_cache .ruff_cache test-results
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
