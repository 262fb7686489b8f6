# Papertape. `make help` lists what there is; GNU make 3.81 and a POSIX shell are enough.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
# The Python to build the environment with, when it should not be looked for: make run PYTHON=/path/to/python3.12
PYTHON :=
# How far the lock files may move: make lock UPGRADE=--upgrade, or UPGRADE='--upgrade-package fastapi'
UPGRADE :=

.PHONY: help run demo test test-long check lint types imports bench format lock audit clean FORCE
FORCE:

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.runtime ## Install what is missing, then start the service
	@exec $(PY) -m app serve

demo: $(VENV)/.runtime ## Trade on the simulated market: no network, no keys, under a minute
	@exec $(PY) -m app demo

test: $(VENV)/.dev ## Run the whole test suite, offline
	@echo "== test: pytest"
	@$(PY) -m pytest -m "not slow"

test-long: $(VENV)/.dev ## Run the test suite and its slow parts
	@$(PY) -m pytest

check: lint types imports test ## Everything a change must pass: lint, types, imports, test
	@echo "== check: all passed"

lint: $(VENV)/.dev ## Check style and layout, and the Dockerfile
	@echo "== lint: ruff, hadolint"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(VENV)/bin/hadolint Dockerfile

types: $(VENV)/.dev ## Check the types
	@echo "== types: mypy"
	@$(PY) -m mypy

imports: $(VENV)/.dev ## Check that imports point down
	@echo "== imports: import-linter"
	@$(VENV)/bin/lint-imports

format: $(VENV)/.dev ## Lay the code out and put right what ruff can
	@$(PY) -m ruff check --fix --quiet . || true
	@$(PY) -m ruff format .

bench: $(VENV)/.dev ## Measure speed and size (benchmarks/README.md)
	@exec $(PY) -m benchmarks

lock: $(VENV)/.dev ## Turn the requirements*.in into lock files; needs the network
	@set -e; for name in requirements requirements-dask requirements-dev; do \
	    $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 $(UPGRADE) \
	        $$name.in -o $$name.txt; \
	done

audit: $(VENV)/.dev ## Look for known holes in what the service runs on; needs the network
	@$(VENV)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.txt

clean: ## Remove the environment and the caches; keep the database, the models and .env
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +


# The environment. A stamp is newer than the lock file it stands for once everything in that file is installed.
# The development lock holds the runtime's packages, too, so it writes both stamps.

$(VENV)/.runtime: requirements.txt
	@$(call install,requirements.txt)
	@touch $(VENV)/.runtime

$(VENV)/.dev: requirements.txt requirements-dev.txt
	@$(call install,requirements-dev.txt)
	@touch $(VENV)/.runtime $(VENV)/.dev

# An environment whose Python has gone (upgraded, folder moved) is built anew whatever the stamps say.
ifneq ($(shell $(PY) -c 'print("works")' 2>/dev/null),works)
$(VENV)/.runtime $(VENV)/.dev: FORCE
endif

# A lock names all there is to install, so nothing is looked for besides (--no-deps): not the peewee, either, that
# pyproject.toml takes out of it.
#
# The file .installing names the process at work. Where it is left behind, an installation was cut short and a package
# may be there by half, which both pip and uv would take for whole: the environment is then built anew, too.
define install
set -e; \
lock=$(VENV)/.installing; \
if [ -e $$lock ] && kill -0 "$$(cat $$lock)" 2>/dev/null; then \
    echo "Process $$(cat $$lock) is installing into $(VENV); wait for it (or, if it is not, run: make clean)." >&2; \
    exit 1; \
fi; \
if uv --version >/dev/null 2>&1; then uv=yes; else uv=; fi; \
$(pass_pip_settings_to_uv); \
if [ -e $$lock ] || ! $(PY) -c '' 2>/dev/null; then \
    $(find_python); \
    echo "Creating $(VENV) with $$python"; \
    rm -rf $(VENV); mkdir $(VENV); echo $$$$ > $$lock; \
    if [ $$uv ]; then uv venv --quiet --no-project --allow-existing --python "$$python" $(VENV); \
    else "$$python" -m venv $(VENV); fi; \
fi; \
echo $$$$ > $$lock; \
echo "Installing what $(1) names; this takes a minute or two, once"; \
if [ $$uv ]; then uv pip install --quiet --python $(PY) --no-deps --require-hashes --only-binary :all: -r $(1); \
else $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r $(1); fi; \
rm $$lock
endef

# uv reads none of pip's variables: hand it those that say how the package index is reached.
define pass_pip_settings_to_uv
[ -z "$$PIP_INDEX_URL" ] || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$PIP_INDEX_URL}"; \
[ -z "$$PIP_CERT" ] || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; \
[ -z "$$PIP_DEFAULT_TIMEOUT" ] || export UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-$$PIP_DEFAULT_TIMEOUT}"
endef

# Each candidate is run, because a name on the PATH may be no more than a version manager's signpost.
define find_python
python=; bare=; \
for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
    "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
    if [ $$uv ] || "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
    bare=$$candidate; \
done; \
if [ -z "$$python" ] && [ -n "$$bare" ]; then \
    echo "$$bare cannot create virtual environments." >&2; \
    echo "On Debian and Ubuntu: sudo apt install python3-venv (for another than the system's Python: $$bare-venv)." >&2; \
    exit 1; \
fi; \
if [ -z "$$python" ] && [ $$uv ] && [ -z "$(PYTHON)" ]; then python='>=3.11,<3.14'; fi; \
if [ -z "$$python" ]; then \
    echo "Python 3.11, 3.12 or 3.13 is needed and $(if $(PYTHON),$(PYTHON) is none,none was found)." >&2; \
    echo "On Debian and Ubuntu: sudo apt install python3 python3-venv. On macOS: brew install python@3.13." >&2; \
    echo "Or name one: make run PYTHON=/path/to/python3.12" >&2; \
    exit 1; \
fi
endef
