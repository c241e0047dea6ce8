# `make` lists the commands. They need python3 (3.11 or newer), git and make, and bring everything else.

PYTHON ?= python3
# A folder of its own, because the embedded PostgreSQL runs as another user when root starts it.
PYTEST = scratch=$$(mktemp -d) && chmod 755 "$$scratch" && trap 'rm -rf "$$scratch"' EXIT && \
	PYTEST_DEBUG_TEMPROOT="$$scratch" .venv/bin/python -m pytest --basetemp="$$scratch/tests"
INSTALL = .venv/bin/uv pip install --quiet --python .venv/bin/python --constraint constraints.txt

export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL = help
.PHONY: help adopt demo test check proving mutants soak bench constraints

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

adopt: .venv/demo ## say what a project that exists needs: make adopt PROJECT=/path/to/it; WRITE=1 brings the files
	@.venv/bin/python scripts/adopt.py "$(PROJECT)" $(if $(WRITE),--write) $(OPTIONS)

demo: .venv/demo ## render a server, run it, talk to it; ONCE=1 ends after the report
	@ONCE=$(ONCE) .venv/bin/python scripts/demo.py

test: .venv/dev ## run every test
	@# Three files at a time for two processors, as many tests wait.
	@# What fails is looked at once more, alone: a busy machine decides no test.
	@($(PYTEST) --cache-clear --numprocesses=3 --dist=loadfile) || { \
		test $$? = 1 && ($(PYTEST) --last-failed --last-failed-no-failures=none --exitfirst); }

check: .venv/dev ## the quick loop, under two minutes
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	@$(PYTEST) --numprocesses=2 -m "not slow" tests/questions tests/rendering tests/generated tests/proving

proving: .venv/dev ## take out each protection, and see a test fail
	@.venv/bin/python scripts/protections.py
	@$(PYTEST) tests/proving

mutants: .venv/dev ## change modules by rule, and see a test fail: ROOM=auth SAMPLE=40 SEED=1; ROOM="auth edge" for several
	@# With SCRATCH=folder what was measured and noticed is kept there: a run that was stopped goes on.
	@scratch="$(or $(SCRATCH),$$(mktemp -d))" && mkdir -p "$$scratch" && chmod 755 "$$scratch" && \
		trap '$(if $(SCRATCH),:,rm -rf "$$scratch")' EXIT && \
		.venv/bin/python scripts/mutants.py $(ROOM) --sample $(or $(SAMPLE),40) --seed $(or $(SEED),1) --scratch "$$scratch"

soak: .venv/dev ## an hour of mixed traffic, to see that nothing grows; MINUTES= for another time
	@.venv/bin/python bench/soak.py

bench: .venv/bench ## measure, and write docs/performance.md; needs wrk, takes 12 minutes
	@.venv/bin/python bench/run.py --rounds 4 --write
	@.venv/bin/python bench/growth.py --rounds 2 --write

constraints: .venv/demo ## pin the newest versions of the tools in constraints.txt
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --group dev --output-file constraints.txt

.venv/bench .venv/demo .venv/dev: .venv/%: pyproject.toml constraints.txt .venv/uv
	@echo "Installing what make needs, into .venv"
	@$(INSTALL) --group $* || { \
		echo "make could not install its tools: check the network and the proxy, then run it again" >&2; exit 1; }
	@touch $@

.venv/uv:
	@command -v git >/dev/null || { echo "This needs git: install it with your system's packages" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or newer: run it with PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { \
		echo "Python lacks its venv module: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
		--constraint constraints.txt uv || { \
		echo "pip could not install uv: check the network and the proxy, then run it again" >&2; exit 1; }
	@touch $@
