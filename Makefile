# From a clean clone, `make reproduce` and `make test` are all there is to run; each makes .venv first where it has to.

PYTHON  ?= python3
PROFILE ?= smoke
OPTIONS ?=

VENV  := .venv
# Written when everything is installed: without it, what is in .venv is taken for the rest of an interrupted install,
# if it was begun here at all; one that the reader has made is not touched.
STAMP := $(VENV)/.complete
BEGUN := $(VENV)/.begun

# Nothing is read from or written to the reader's home folder.
export IPYTHONDIR := $(CURDIR)/$(VENV)/var/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/$(VENV)/var/jupyter
export JUPYTER_RUNTIME_DIR := $(CURDIR)/$(VENV)/var/runtime
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/var/matplotlib
# The kernel `python3` is the one in .venv, whatever kernels the reader has registered.
export JUPYTER_PREFER_ENV_PATH := 1
unexport PYTHONPATH PYTHONHOME

# Run commands with .venv first in the path, and say how long they took and how they ended. (Under pytest, IPython does
# not start where the standard input is closed; an empty one will do.)
timed = start=$$(date +%s); (PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; export PATH; $(1)) </dev/null; status=$$?; \
	echo "make $@: $$(( $$(date +%s) - start )) s, exit status $$status"; exit $$status

.DEFAULT_GOAL := help
.PHONY: help reproduce paper plan test quick book lint clean

help:  ## Say what there is to make.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

reproduce: $(STAMP)  ## Train, attack, execute every page, build the site (PROFILE=smoke, quick or paper); stopped, it goes on where it was.
	@$(call timed, python workflow/reproduce.py --profile "$(PROFILE)" $(OPTIONS))

paper: $(STAMP)  ## The same with the full grid of runs: tens of hours of a core, or a GPU (OPTIONS="--cluster slurm" for a cluster).
	@$(call timed, python workflow/reproduce.py --profile paper $(OPTIONS))

plan: $(STAMP)  ## Say what is still to be done for PROFILE and what it would cost; does nothing.
	@$(call timed, python workflow/reproduce.py --profile "$(PROFILE)" --dry-run $(OPTIONS))

test: $(STAMP)  ## Check the dependency lists, run the tests, execute the notebooks again and compare.
	@$(call timed, python tools/dependencies.py --check && python tools/run_tests.py)

quick: $(STAMP)  ## Run the tests but those that kill, train long, need a cluster or execute notebooks: three minutes on two cores.
	@$(call timed, python tools/run_tests.py --quick)

book: $(STAMP)  ## Build the site from the committed notebooks into _build/html.
	@$(call timed, jupyter-book build book --all -W -n --keep-going)

CODE := src tools tests workflow benchmarks

lint: $(STAMP)  ## Check the style of the code (ruff) and the types of the library's public surface (mypy).
	@$(call timed, ruff check $(CODE) && ruff format --check $(CODE) && mypy)

clean:  ## Remove what was built and cached; .venv, data sets and runs stay.
	rm -rf _build .pytest_cache .hypothesis .ruff_cache
	find src tools tests book workflow benchmarks -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "make: there is no $(PYTHON); name a Python 3.11 to 3.13, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: $(PYTHON) is $$("$(PYTHON)" -V 2>&1), and this needs Python 3.11 to 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu, install the package python3-venv" >&2; exit 1; }
	@test -z "$$(ls -A $(VENV) 2>/dev/null)" || test -f $@ || test -f $(BEGUN) || \
		{ echo "make: there is a $(VENV) that make did not make; remove it, or give it another name" >&2; exit 1; }
	@test -f $@ || { rm -rf $(VENV) && mkdir $(VENV) && touch $(BEGUN) && "$(PYTHON)" -m venv $(VENV); }
	@touch $(BEGUN) && rm -f $@
	$(VENV)/bin/python -m pip install --no-input --disable-pip-version-check --progress-bar off --no-deps -r requirements.lock
	$(VENV)/bin/python -m pip install --no-input --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -c 'import matplotlib.font_manager'  # makes its cache of fonts now, not in a notebook
	@touch $@
