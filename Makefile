# make book    the interactive book, ending with the page to open        make test     all tests
# make bench   timings beside peers                                      make results  missing weights and every chapter's records into results/
# make archive the built book as one file that needs no network: build/instab-book.zip
# make clean   forget what was built, keep .venv and downloaded data
# Each does its own set-up in .venv. PYTHON picks the interpreter, PROFILE how much work (smoke, standard, paper), INSTAB_RESULTS
# the folder of make results (results).

PYTHON  ?= python3
PROFILE ?= standard
VENV    := .venv
RUN     := $(VENV)/bin/python
READY   := $(VENV)/ready

.PHONY: book archive test bench results clean

book: $(READY)
	$(RUN) -m instab_utils.book all --profile $(PROFILE)

archive: $(READY)
	$(RUN) -m instab_utils.book archive

test: export OMP_NUM_THREADS = 1
test: $(READY)
	@$(RUN) tests/browser.py --install
	$(RUN) -m pytest -n 2

bench: export MALLOC_MMAP_THRESHOLD_ = 4294967296
bench: export MALLOC_TRIM_THRESHOLD_ = 8589934592
bench: $(READY)
	@set -e; for script in $(filter-out benchmarks/common.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(RUN) $$script; done

results: export INSTAB_RESULTS ?= results
results: $(READY)
	$(RUN) -m instab_utils.training all --profile $(PROFILE)
	$(RUN) -m instab_utils.papers all --profile $(PROFILE)
	$(RUN) -m instab_utils.book execute --profile $(PROFILE)
	$(RUN) book/landing_twin.py
	$(RUN) book/result_picture.py

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf _build build book/_static/vendor .pytest_cache
