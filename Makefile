# One entry for every check, by hand and on CI. On a fresh machine it needs Python 3.11 or later, make
# and a package registry: the first target that needs packages makes its own .venv.
#   make PYTHON=python3.13 test     with another interpreter (after `make clean`)

PYTHON ?= python3
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test quick check servers fuzz packaging bench clean

# No recipe may reach a real account: the credentials are fake, whatever the shell had set.
export AWS_ACCESS_KEY_ID := testing
export AWS_SECRET_ACCESS_KEY := testing
export AWS_DEFAULT_REGION := us-east-1
export AWS_EC2_METADATA_DISABLED := true
export AWS_CONFIG_FILE := /dev/null
export AWS_SHARED_CREDENTIALS_FILE := /dev/null
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_REGION
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV
# Without compiled modules each process that a test starts would compile all packages anew.
unexport PYTHONDONTWRITEBYTECODE

# No test depends on another, nor on their order.
parallel := -n auto --maxprocesses 4

# The stamp names the folder it was made in. A moved or copied checkout gets its .venv anew, for the
# editable install in it points at the old place.
# The demo needs less, and has a stamp of its own: its packages alone are there in half the time.
ready := .venv/ready
demo_ready := .venv/demo-ready
ifneq ($(shell cat $(demo_ready) 2>/dev/null),$(CURDIR))
.PHONY: $(ready) $(demo_ready)
clear := --clear
endif

# The servers that tests start: their pins are not ours, so they have an environment of their own.
servers_ready := .servers/ready
ifneq ($(shell cat $(servers_ready) 2>/dev/null),$(CURDIR))
.PHONY: $(servers_ready)
endif

# What one part of them lacks is no reason to do without the others, but where all are required.
optional = [ "$$STREAMGAUGE_REQUIRE_SERVERS" != 1 ]

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(demo_ready) ## a simulated fleet through stream, table, topic, queue and bucket in this process
	@.venv/bin/streamgauge demo

# Without the servers their tests are skipped, and say so; where servers are required, as on CI, a
# server that cannot be had is an error.
test: $(ready) ## every test, with coverage, then `make packaging`
	@$(MAKE) --no-print-directory servers || [ "$$STREAMGAUGE_REQUIRE_SERVERS" != 1 ]
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest -q -rfEs $(parallel)
	@.venv/bin/coverage combine -q
	@.venv/bin/coverage report --skip-covered
	@$(MAKE) --no-print-directory packaging

quick: $(ready) ## the tests that take under a minute together
	@.venv/bin/pytest -q $(parallel) -m 'not slow'

check: $(ready) ## ruff, ruff format, mypy (strict) and the import contracts, in this order
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

servers: $(servers_ready) ## the servers that some tests start, in .servers

packaging: $(ready) ## the wheel in a fresh environment, its command run outside the checkout
	@echo "packaging: building the wheel and installing it in an environment of its own ..."
	@rm -rf build
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch" build' EXIT; \
	  .venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir "$$scratch" .; \
	  .venv/bin/python -m venv "$$scratch/venv"; \
	  "$$scratch/venv/bin/python" -m pip install --quiet "$$scratch"/streamgauge-*.whl; \
	  (cd "$$scratch" && venv/bin/streamgauge --version && venv/bin/streamgauge --help >help.txt && \
	    venv/bin/python -c 'from streamgauge import Pipeline'); \
	  echo "packaging: the installed command and the library face work"

fuzz: $(ready) ## statements and messages by chance for a minute, guided by coverage
	@.venv/bin/python -c 'import atheris' 2>/dev/null || { \
	  echo "fuzz: skipped: there is no atheris for this Python; pip install atheris" >&2; \
	  [ "$$STREAMGAUGE_REQUIRE_SERVERS" != 1 ]; }
	@! .venv/bin/python -c 'import atheris' 2>/dev/null || \
	  .venv/bin/python tests/fuzz/fuzz_sql.py --seconds 60 2>.fuzz-log || { tail -40 .fuzz-log; exit 1; }

bench: $(ready) ## every bench in its quick form, JSON out
	@set -e; for bench in bench/*.py; do .venv/bin/python "$$bench" --quick; done

clean: ## remove what the other targets made
	@rm -rf .venv .servers .link build dist *.egg-info .coverage .coverage.* .hypothesis \
	  .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(demo_ready): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "streamgauge needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) --version) (once, half a minute) ..."
	@rm -f $@
	@$(PYTHON) -m venv $(clear) .venv || { \
	  echo "no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --no-compile --editable '.[demo]'
	@printf %s "$(CURDIR)" >$@

$(ready): $(demo_ready)
	@echo "adding what the tests need ..."
	@.venv/bin/python -m pip install --quiet --editable '.[test,demo]'
	@mkdir -p .link && ln -sfn .. .link/streamgauge
	@printf %s "$(CURDIR)" >$@

$(servers_ready): tests/servers/requirements.txt tests/servers/checkov.txt tests/servers/pom.xml \
  tests/servers/package.json
	@echo "setting up .servers: what some tests run against (once, a minute or two) ..."
	@rm -f $@
	@$(PYTHON) -m venv --clear .servers
	@.servers/bin/python -m pip install --quiet --requirement $<
	@.servers/bin/python -m venv .servers/checkov
	@.servers/checkov/bin/python -m pip install --quiet --requirement tests/servers/checkov.txt
	@ln -s ../checkov/bin/checkov .servers/bin/checkov
	@if ! command -v mvn >/dev/null; then \
	  echo "no Maven here: the tests against the KPL will be skipped"; \
	else mvn --quiet --batch-mode --file tests/servers/pom.xml \
	  dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$(CURDIR)/.servers/kpl" || \
	  { echo "Maven failed: the tests against the KPL will be skipped"; $(optional); }; fi
	@if ! command -v npm >/dev/null; then \
	  echo "no npm here: the tests that reshard a stream under the KCL will be skipped"; \
	else cp tests/servers/package.json .servers && \
	  npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix .servers || \
	  { echo "npm failed: the tests that reshard a stream under the KCL will be skipped"; $(optional); }; fi
	@printf %s "$(CURDIR)" >$@
