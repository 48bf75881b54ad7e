# Every target does its own set-up; a warm one starts at once.

PYTHON := .venv/bin/python
SETUP := pyproject.toml constraints.txt scripts/setup.sh

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs clean

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

demo: .venv/.ready-demo ## Follow a performance of a shipped score; writes demo.html and positions.jsonl into demo-out/
	.venv/bin/scorefollow demo

test: .venv/.ready-test ## Run all tests
	$(PYTHON) -m pytest -n 3 --dist loadfile || $(PYTHON) -m pytest --last-failed --last-failed-no-failures none

lint: .venv/.ready-test ## Check style and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	mkdir -p build/types && ln -sfn ../../adapters build/types/sf_adapters
	$(PYTHON) -m mypy -p sf_plugin -p sf_adapters

bench: .venv/.ready-demo ## Measure speed and memory on this machine
	.venv/bin/scorefollow bench

docs: .venv/.ready-docs ## Build the documentation as a web site in build/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

clean: ## Remove what the other targets made, the environment too
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.ready-%: $(SETUP)
	bash scripts/setup.sh $*
	touch $@
