# Each target needs Python 3.11 or newer and make; the rest is installed into .venv on first use.
#   make demo ARGS="--streams 5"     make test ARGS="-k users"     make test PYTHON=python3.13

PYTHON ?= python3
ARGS ?=
# Processes that run tests. More than there are CPUs: many tests wait for something to happen.
WORKERS ?= 3
BIN := .venv/bin

# Modules of another environment must not leak into .venv.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test soak coverage lint check bench profile bench-events bench-cache bench-capi capi install abi format wheel clean venv

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/make \1 | \2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target text; do printf '%-19s%s\n' "$$target" "$$text"; done

demo: venv ## play a broadcast evening on real servers and check the outcome
	@$(BIN)/rootstream-store demo $(ARGS)
	@$(BIN)/python capi/examples/run_streamer.py

test: venv ## run the tests on real servers
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

soak: export ROOTSTREAM_SOAK_SECONDS ?= 60
soak: venv ## run the concurrency soaks alone, a minute each
	@$(BIN)/pytest -m slow $(ARGS)

coverage: venv ## run the tests and report which lines they reach
	@$(BIN)/pytest -n $(WORKERS) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: venv ## check style, types, layers and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk sql/migrations/*.sql

check: ## run what CI runs: test, then lint
	@.ci/run

bench: venv ## measure every call beside psycopg and libpq, and draw docs/bench.svg
	@$(BIN)/python -m tests.benchmarks.calls $(ARGS)

profile: venv ## show where a call spends its time: make profile ARGS="users.get"
	@$(BIN)/python -m tests.benchmarks.calls.profile $(ARGS)

bench-events: venv ## measure the event log beside bare SQL and another event store
	@$(BIN)/python -m tests.benchmarks.events $(ARGS)

bench-cache: venv ## measure cached reads and live figures beside bare Redis
	@$(BIN)/python -m tests.benchmarks.cache $(ARGS)

capi: venv ## build the C library into build/capi: lib/, include/
	@$(BIN)/python build_capi.py

install: venv ## install the C library: make install PREFIX=/usr/local
	@test -n "$(PREFIX)" || { echo "error: say where: make install PREFIX=/usr/local" >&2; exit 1; }
	@$(BIN)/python build_capi.py --install "$(PREFIX)"

abi: capi ## write the dump that the ABI is compared with; needs abidw (libabigail)
	@abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --drop-private-types \
		--exported-interfaces-only --headers-dir capi build/capi/lib/librootstream_store.so.1 \
		> build/capi/dump.abi && mv build/capi/dump.abi capi/abi/rootstream_store-1.abi

bench-capi: venv ## measure the C library beside Python, libpq and hiredis
	@$(BIN)/python -m tests.benchmarks.capi $(ARGS)

format: venv ## format the code and apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: venv ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## delete .venv and everything built or cached
	rm -rf .venv build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "error: no $(PYTHON) on PATH; install Python 3.11 or newer, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) .ci/venv.py
