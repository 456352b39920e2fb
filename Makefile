# `make` lists the targets. Everything is fetched by package name, with cargo, npm or pip.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

LOCAL := supabase/local
TOOLS := .local/tools
# Outside of the checkout, so that a tool is built once for each version.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/opusflair
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
MIGRATION := supabase/migrations/20261123000000_first_generation.sql
STACK := $(LOCAL)/node_modules/.bin/bun $(LOCAL)/stack.ts
NODE := node --import tsx
# The crash points are only for tests. No release build uses this feature.
FEATURES := --features local/crash-points
SOURCES := $(addprefix sql/,$(shell cat sql/order.txt))

say = @printf '\n\033[1m%s\033[0m\n' "$(1)"

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install build ## Turn a photo into an artwork: STYLE=neon-night PHOTO=path/to.jpg
	$(call say,Demo)
	@STYLE="$(STYLE)" PHOTO="$(PHOTO)" SANDBOX_RUN_MS=2500 \
	  $(STACK) --state .local/demo/stack --fresh -- sh -c 'cd tests && exec $(NODE) demo/demo.ts'

.PHONY: run
run: install build ## Start the whole stack; Ctrl-C stops it: ARGS="--quiet"
	@$(STACK) --state .local/run $(ARGS) || [ $$? -eq 130 ]

.PHONY: fresh
fresh: override ARGS += --fresh
fresh: run ## Do the same, but begin with an empty database and empty buckets

.PHONY: status
status: install ## Show the status of `make run`, or of FUNCTIONS_URL with OPERATOR_SECRET
	@$(LOCAL)/node_modules/.bin/bun $(LOCAL)/status.ts .local/run

.PHONY: chaos
chaos: install build ## Run random jobs with random faults, then check every invariant: SEED=7 or SEED=1..20, JOBS=500
	@SEED="$(or $(SEED),1..5)" JOBS="$(or $(JOBS),500)" SANDBOX_RUN_MS=30 CLEANUP_INTERVAL_SECONDS=0 \
	  $(STACK) --state .local/chaos --fresh --quiet -- sh -c 'cd tests && exec $(NODE) chaos/chaos.ts'

.PHONY: adversary
adversary: install build ## Test that an account owner who cheats gains nothing, one kind of cheat after another
	@SANDBOX_RUN_MS=300 CLEANUP_INTERVAL_SECONDS=0 \
	  $(STACK) --state .local/adversary --fresh --quiet -- \
	  sh -c 'cd tests && $(NODE) --test --test-concurrency=1 --test-timeout=300000 adversary/*.test.ts'

.PHONY: old-privileges
old-privileges: install build ## Run the database tests and the tests with strangers on a project with the old default privileges
	@RESULTS= SANDBOX_RUN_MS=300 CLEANUP_INTERVAL_SECONDS=0 \
	  $(STACK) --state .local/old-privileges --fresh --quiet --default-privileges legacy -- \
	  sh -c 'cd tests && $(NODE) database/run.ts && $(NODE) --test --test-concurrency=1 --test-reporter=dot journeys/strangers.test.ts'

.PHONY: bench
bench: install build ## Measure what a sweep costs per object, for 1,000 to 100,000 objects: SIZES="1000 100000"
	@SIZES="$(or $(SIZES),1000 10000 100000)" CLEANUP_INTERVAL_SECONDS=0 \
	  $(STACK) --state .local/bench --fresh --quiet -- sh -c 'cd tests && exec $(NODE) bench/sweep.ts'

.PHONY: bench-export
bench-export: install build ## Measure what an export costs, by artworks and usage events: SIZES="100:20000 2000:365000"
	@SIZES="$(or $(SIZES),100:20000 2000:365000)" CLEANUP_INTERVAL_SECONDS=0 \
	  $(STACK) --state .local/bench --fresh --quiet -- sh -c 'cd tests && exec $(NODE) bench/export.ts'

.PHONY: bench-photos
bench-photos: install ## Measure processor time and memory for preparing a large photo, compared with sharp
	@cd tests && exec $(NODE) bench/photos.ts

.PHONY: fuzz-photos
fuzz-photos: install ## Prepare damaged photos of each format for MINUTES=60: no panic, at most one second and 500 MB each
	@cd tests && MINUTES="$(or $(MINUTES),60)" exec $(NODE) photos/fuzz.ts

.PHONY: mutants
mutants: install build ## Remove lines that move credits or delete data, one at a time, and see whether a test fails
	@cd tests && $(NODE) mutants/mutants.ts

# Emptied before each run, so that results of an earlier run do not count.
RESULTS_FOLDER := .local/policy
test policy: export RESULTS := $(CURDIR)/$(RESULTS_FOLDER)

.PHONY: policy
policy: install build $(TOOLS)/.installed $(DENY) ## Run the tests that POLICY.md names, and show which promises are kept: CLAUSES="R2 G3" for some
	@rm -rf $(RESULTS_FOLDER) && mkdir -p $(RESULTS_FOLDER)
	@cd tests && CLAUSES="$(CLAUSES)" $(NODE) policy/run.ts

.PHONY: test
test: install build $(TOOLS)/.installed ## Run everything: unit, database, stack, clients, journeys, checks
	@rm -rf $(RESULTS_FOLDER) && mkdir -p $(RESULTS_FOLDER)
	$(call say,Tests and checks)
	@cd tests && exec $(NODE) lanes.ts
	$(call say,Policy)
	@cd tests && $(NODE) policy/policy.ts

.PHONY: check
check policy: export CARGO_DENY := $(DENY)
check: install $(DENY) ## Check format, lints, documents, dependencies, schema equality and advisors
	$(call say,Format and lints)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet $(FEATURES) -- -D warnings
	@cd $(LOCAL) && node_modules/.bin/tsc --noEmit
	@cd tests && node_modules/.bin/tsc --noEmit
	$(call say,Documents)
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	@cd tests && $(NODE) check/documents.ts
	$(call say,Dependencies)
	@cd tests && $(NODE) check/audit.ts
	$(call say,Database)
	@cmp --silent <(cat $(SOURCES)) $(MIGRATION) || echo "  (the first migration and sql/ differ in text; their schemas are compared next)"
	@$(STACK) --state .local/check --fresh --quiet --without functions,replicate -- \
	  sh -c 'cd tests && $(NODE) check/schema-equality.ts && $(NODE) check/advisors.ts'

.PHONY: build
build: ## Compile the functions and the sandbox
	$(call say,Compiling (the first time takes a few minutes))
	cargo build --workspace --locked $(FEATURES)

.PHONY: install
install: $(LOCAL)/node_modules/.installed tests/node_modules/.installed ## Fetch the npm packages

# `npm install --no-save` follows the lock file and does not change it. `npm ci` would refuse a lock file without the
# builds for other machines, and not every registry has all of them.
# Some versions of npm do not run install scripts. Bun needs its own, because it puts the binary in place.
$(LOCAL)/node_modules/.installed: $(LOCAL)/package.json $(LOCAL)/package-lock.json
	$(call say,Fetching the embedded stack (PostgreSQL; the Data API; Bun))
	npm install --no-save --prefix $(LOCAL) --loglevel=error
	@$(LOCAL)/node_modules/.bin/bun --version > /dev/null 2>&1 || (cd $(LOCAL)/node_modules/bun && node install.js)
	@touch $@

tests/node_modules/.installed: tests/package.json tests/package-lock.json
	$(call say,Fetching the npm packages of the tests)
	npm install --no-save --prefix tests --loglevel=error
	@touch $@

# With --no-deps, so that pip installs only the packages that are named here.
$(TOOLS)/.installed: Makefile
	$(call say,Fetching the Lambda emulator (and the Python packages that check receipts and artworks))
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --no-deps cargo-lambda==1.9.2
	$(TOOLS)/bin/pip install --quiet --no-deps PyJWT==2.15.1 cryptography==50.0.2 cffi==2.1.1 pycparser==3.12
	$(TOOLS)/bin/pip install --quiet --no-deps c2pa-python==0.38.1 asn1crypto==1.5.1
	@touch $@

# Without optimisation: an optimised build takes longer than cargo-deny will ever run.
$(DENY):
	$(call say,Building cargo-deny $(DENY_VERSION) (once))
	cargo install --debug --locked --quiet --root $(CACHE)/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)

.PHONY: migration
migration: ## Write the first migration again from sql/ (only while nothing is deployed)
	cat $(SOURCES) > $(MIGRATION)

.PHONY: export-schema
export-schema: install ## Write docs/export.schema.json again from sql/
	@$(STACK) --state .local/check --fresh --quiet --without functions,replicate -- \
	  sh -c 'cd tests && $(NODE) check/export-schema.ts'

.PHONY: clean
clean: ## Delete everything that was built, fetched or stored
	rm -rf target .local $(LOCAL)/node_modules tests/node_modules supabase/.temp
