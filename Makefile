# Everything a fresh checkout needs: python3.11 or newer (with venv), git and make.
#   make viewer               install, then serve ./.runicorn at http://127.0.0.1:23300
#   make viewer ARGS="--storage ~/experiments --port 8000"
#   make test                 install, then run the tests that need no server and little time
#   make test ARGS="tests/site"
#   make test-all             all of them, as CI does: PostgreSQL, Redis, nginx, sshd and Chromium
#   make test-heavy           what is run once before something is called done

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=

PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadscope

.PHONY: viewer test test-all test-heavy check format lock clean

viewer: $(VENV)/viewer.installed
	$(BIN)/runicorn viewer $(ARGS)

test: $(VENV)/test.installed
	$(PYTEST) -m "not slow and not servers and not heavy" $(ARGS)

test-all: $(VENV)/test.installed
	$(PYTEST) $(ARGS)

test-heavy: $(VENV)/test.installed
	$(PYTEST) -m heavy $(ARGS)

check: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	RUNICORN_DIR=$$(mktemp -d) $(BIN)/python manage.py makemigrations --check --dry-run
	set -a && . ./deploy/runicorn.env && RUNICORN_ALLOW_REMOTE=1 RUNICORN_DIR=$$(mktemp -d) && \
	RUNICORN_SECRET_KEY_FILE= && RUNICORN_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_hex(32))') && \
	$(BIN)/python manage.py check --deploy --fail-level WARNING --settings settings.team

format: $(VENV)/test.installed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The exact versions, with hashes, that a server is deployed with.
lock: $(VENV)/bin/python
	$(PIP) pip-tools
	$(BIN)/pip-compile --quiet --upgrade --extra team --generate-hashes --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header \
	  --no-annotate --unsafe-package runicorn --output-file requirements/team.lock pyproject.toml
	sed -i '/^#/d;/^$$/d' requirements/team.lock  # it warns of ourselves, whom it does not pin

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

# The checkout itself is installed (-e): only new dependencies ask for another installation.
$(VENV)/viewer.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[viewer,image]'
	touch $@

$(VENV)/test.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[viewer,test]'
	touch $@

$(VENV)/bin/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "Runicorn needs Python 3.11 or newer with venv: install it, or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1
