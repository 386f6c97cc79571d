# `make` alone lists what can be made. Everything but help, lock and the two cleanings first makes sure
# that there is a Python with the locked packages: the one named by PYTHON=, else the activated conda
# environment if it was made from environment.yml, else .venv, installed here from requirements.lock.

STUDY ?= demo
DATA  ?=
CAPTIONER ?=
ARGS  ?=
# As they were typed, and to the shell by the environment: a name is never a command.
override STUDY := $(value STUDY)
override DATA := $(value DATA)
override CAPTIONER := $(value CAPTIONER)
export STUDY DATA CAPTIONER
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup study ablations test lab bench lint lock clean distclean FORCE

# --- which Python -----------------------------------------------------------------------------------
STAMP := .venv/.installed
READY := $(STAMP)
ifneq (,$(findstring command,$(origin PYTHON)))
  READY :=
else
  override PYTHON := .venv/bin/python
  ifdef CONDA_PREFIX
    # -P: the clone itself is not on the path, so aacstudy counts only where it is installed.
    ifeq (yes,$(shell "$(CONDA_PREFIX)/bin/python" -P -c 'import sys; from importlib.util import find_spec; \
        sys.exit(not all(map(find_spec, ["aacstudy", "torch", "papermill", "snakemake"])))' 2>/dev/null && echo yes))
      override PYTHON := $(CONDA_PREFIX)/bin/python
      READY :=
    endif
  endif
endif
RUN := "$(PYTHON)"

# --- what can be made -------------------------------------------------------------------------------
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo; echo '  PYTHON=path uses that Python as it is; BOOTSTRAP=path makes .venv with that one; CORES=n; ARGS=... for pytest, uv.'

setup: $(READY) ## install the locked packages into .venv (study, test, lab, bench and lint do it themselves)

study: $(READY) ## run a study and write its reports: STUDY=demo (a file in studies/), DATA=folder for your own recordings, CAPTIONER=study
	$(RUN) -m aacstudy run "$$STUDY" $${DATA:+--data "$$DATA"} $${CAPTIONER:+--captioner "$$CAPTIONER"} --cores $(CORES)

ablations: $(READY) ## the demo beside every change of studies/ablations, and the whole scorecard: half an hour
	$(RUN) -m aacstudy run ablations --cores $(CORES)

test: $(READY) ## run the tests; ARGS='-k retrieval' picks some
	$(RUN) -m pytest $(ARGS)

lab: $(READY) ## open the notebooks in JupyterLab
	$(RUN) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

bench: $(READY) ## measure speed, as ratios to the plain reference
	$(RUN) -m benchmarks

lint: $(READY) ## check style and formatting with ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

lock: $(if $(wildcard $(PYTHON)),,$(READY)) ## pin the packages of pyproject.toml anew; ARGS=--upgrade for newer ones
	$(RUN) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make lock' $(ARGS) -q -o requirements.lock

clean: ## remove reports, artifacts and caches, keep .venv
	@if command -v flock >/dev/null && [ -e artifacts/.locks/run ] && ! flock -n artifacts/.locks/run true; then \
	  echo "A run is at work in artifacts: end it, or wait for it." >&2; exit 1; fi
	if [ -d reports ]; then find reports -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +; fi
	rm -rf artifacts .snakemake .pytest_cache .ruff_cache .hypothesis
	find . \( -name '.venv*' -o -name .git \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv .venv.part

# --- the virtual environment ------------------------------------------------------------------------
# The stamp is written last and holds the folder and the lock's checksum: an install that was killed,
# or a clone that was moved, has no valid stamp and is made again from nothing.
BOOTSTRAP ?=
CANDIDATES := $(if $(BOOTSTRAP),"$(BOOTSTRAP)",python3 python3.14 python3.13 python3.12 python3.11)
PROBE := import sys; from importlib.util import find_spec; v = sys.version_info; \
  print("%d.%d" % v[:2], "old" if v < (3, 11) else "ok" if find_spec("venv") and find_spec("ensurepip") else "bare")

$(STAMP): requirements.lock \
    $(shell [ ! -e $(STAMP) ] || { [ -x .venv/bin/python ] && [ "`sed 1q $(STAMP)`" = "`pwd -P`" ]; } || echo FORCE)
	@set -eu; \
	exec 9<>Makefile; \
	if command -v flock >/dev/null; then \
	  flock -n 9 || { echo "Another make is installing into .venv: waiting for it."; flock 9 || :; }; \
	fi; \
	identity=`pwd -P; cksum <requirements.lock`; \
	if [ -x .venv/bin/python ] && [ -f $@ ] && [ "`cat $@`" = "$$identity" ]; then touch $@; exit 0; fi; \
	if [ -f $@ ] && [ "`sed 1q $@`" = "`pwd -P`" ] && [ -x .venv/bin/uv ] && .venv/bin/python -c ''; then \
	  echo "requirements.lock has changed: bringing .venv up to date."; \
	  printf '%s\n' "$$identity" >.venv/.installing; rm -f $@; \
	else \
	  if [ -d .venv ] && [ ! -f $@ ] && [ ! -f .venv/.installing ]; then \
	    echo ".venv was not made by this Makefile, so it is left alone. Move it away, or remove it with" \
	      "'make distclean', or use it as it is with PYTHON=.venv/bin/python." >&2; exit 1; \
	  fi; \
	  base=; seen=; \
	  for candidate in $(CANDIDATES); do \
	    found=`"$$candidate" -c '$(PROBE)' 2>/dev/null` || continue; \
	    case $$found in *ok) base=$$candidate; break;; esac; \
	    seen="$$seen $$candidate is $$found;"; \
	  done; \
	  if [ -z "$$base" ]; then \
	    case $$seen in \
	      *bare*) echo "Python's venv and ensurepip modules are missing ($${seen# }): on Debian and Ubuntu" \
	        "'apt install python3-venv' brings them." >&2;; \
	      *) echo "aacstudy needs Python 3.11 or newer ($${seen:- no python3 was found}). Install one, or name it:" \
	        "make BOOTSTRAP=/path/to/python3.12 ..." >&2;; \
	    esac; exit 1; \
	  fi; \
	  echo "Installing about 260 locked packages into .venv with $$base (Python $${found% ok})." \
	    "This happens once: 1 to 2 minutes on a fast line, 7 GB of disk."; \
	  rm -rf .venv.part; if [ -d .venv ]; then mv .venv .venv.part; rm -rf .venv.part; fi; \
	  mkdir .venv; printf '%s\n' "$$identity" >.venv/.installing; \
	  "$$base" -m venv .venv; \
	  awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' requirements.lock >.venv/uv.txt; \
	  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt || :; \
	fi; \
	quiet=; [ -t 2 ] || quiet=-q; \
	if [ -x .venv/bin/uv ] && \
	  .venv/bin/uv pip sync $$quiet --python .venv/bin/python --compile-bytecode requirements.lock; then \
	  .venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .; \
	else \
	  echo "No luck with uv: going on with pip, which takes about 5 minutes." >&2; \
	  .venv/bin/python -m ensurepip >/dev/null; \
	  .venv/bin/python -m pip install $$quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; \
	  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi; \
	mv .venv/.installing $@; echo "Installed."
