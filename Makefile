# What people and CI run. A machine needs python3 (3.11 to 3.13, with pip), make and a package index;
# everything else is installed inside this folder. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo test check setup clean
MAKEFLAGS += --no-builtin-rules
INSTALLED := .venv/.installed

# Handed on through the environment, so that a folder's name may hold spaces and quotes.
export PHOTOS PYTHON

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Pictures become variants before your eyes: bundled ones, or yours with PHOTOS=DIR
	@.venv/bin/media demo $${PHOTOS:+"$$PHOTOS"}

test: $(INSTALLED) ## All tests; some of them with ARGS="-k name"
	.venv/bin/pytest $(ARGS)

check: $(INSTALLED) ## Format, lint, types, import rules, lock file, container files
	scripts/check

setup: $(INSTALLED) ## Only install what the others need, in .venv

clean: ## Remove what make installed and tools cached; var/ with your data stays
	rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml uv.lock scripts/setup
	@scripts/setup
	@touch $@
