# What people and CI run. A machine needs python3 (3.11 to 3.14, with pip), make and a package index;
# everything else is installed inside this folder. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo dev test check campaign chaos fuzz limits costs corpus bench budget screenshots audit release setup clean
MAKEFLAGS += --no-builtin-rules
# With CI or SERVICES set, also the large servers that some tests need. Once there they stay: uv removes what
# it is not asked for. `SERVICES= make setup` asks for none.
ifneq ($(wildcard .venv/.installed-services),)
export SERVICES ?= 1
endif
INSTALLED := .venv/.installed$(if $(CI)$(SERVICES),-services)

# Where a machine forbids to keep compiled modules, each of the hundreds of processes that tests start would
# compile all of them.
export PYTHONDONTWRITEBYTECODE :=

# Handed on through the environment, so that a folder's name may hold spaces and quotes.
export PHOTOS SERVE PYTHON CORPUS

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Pictures become variants before your eyes: bundled ones, or yours with PHOTOS=DIR; SERVE=1: then a console
	@.venv/bin/media demo $${SERVE:+--serve} $${PHOTOS:+"$$PHOTOS"}

dev: $(INSTALLED) ## A Redis, a worker and the HTTP server in var/, which start again when the code changes
	@.venv/bin/python -m scripts.development

test: $(INSTALLED) ## All tests but the campaigns; ARGS="-k name"; SERVICES=1: with large servers, too
	.venv/bin/pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED) ## Format, lint, types, import rules, lock file, container files
	scripts/check

campaign: $(INSTALLED) ## The tests that take minutes
	.venv/bin/pytest -m campaign $(ARGS)

chaos: $(INSTALLED) ## Workers killed, frozen, cut off and starved for ten minutes; ARGS="--seed 7 --seconds 60"
	.venv/bin/python -m tests.chaos $(ARGS)

fuzz: $(INSTALLED) ## 20,000 broken or odd pictures through the decoders; ARGS="--inputs 300 --seed 7"
	.venv/bin/python -m tests.campaigns.fuzz $(ARGS)

limits: $(INSTALLED) ## The worst pictures inside 512 MiB and one CPU (root, cgroups)
	.venv/bin/python -m tests.campaigns.limits $(ARGS)

costs: $(INSTALLED) ## The CPU time of the costliest pictures known, by format; ARGS=--write
	.venv/bin/python -m tests.campaigns.costs $(ARGS)

corpus: $(INSTALLED) ## Folders of pictures with a manifest, checked: those in ../shared, or CORPUS=DIR
	.venv/bin/python -m tests.corpus $${CORPUS:+"$$CORPUS"} $(ARGS)

bench: $(INSTALLED) ## This worker beside its peers; ARGS="--quick"
	.venv/bin/python -m bench --docs $(ARGS)

budget: $(INSTALLED) ## The instructions of a decode and an upload against their budget (valgrind); ARGS=--write
	@.venv/bin/python -m bench budget $(ARGS)

screenshots: ## The pictures of the console in docs/, taken anew by a browser
	@$(MAKE) --no-print-directory SERVICES=1 setup
	@.venv/bin/python -m tests.screenshots $(ARGS)

audit: $(INSTALLED) ## What is known against the packages of the lock, and the C libraries that they bring
	@.venv/bin/python -m scripts.audit $(ARGS)

release: $(INSTALLED) ## Wheel, sdist, SBOM and checksums in dist/, checked where nothing else is
	@.venv/bin/python -m scripts.release

setup: $(INSTALLED) ## Only install what the others need, in .venv

clean: ## Remove what make installed and tools cached; var/ with your data stays
	rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml uv.lock scripts/setup
	@rm -f .venv/.installed*
	@scripts/setup
	@touch $@
