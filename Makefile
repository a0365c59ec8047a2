# What one can do here. Each target says in one line what it is for; `make help` prints them.
.DEFAULT_GOAL := help
include rules.mk

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

run: deps ## install what is needed, build, start everything on loopback and return
	@$(MAKE) --no-print-directory -j$$(nproc) build
	@./crm start $(if $(BUS),--bus $(BUS)) $(if $(COUNTERS),--counters $(COUNTERS))

deps: ## install the packages that building and running need (apt)
	@deploy/local/install-deps run

test-deps:
	@deploy/local/install-deps test

build: $(addprefix $(BIN)/,$(PROGRAMS)) $(TOOLS) $(DESCS) $(DIALECT_PB) $(FRAGMENTS) ## compile all programs

# one program with what it reads; an image needs no more
$(PROGRAMS): %: $(BIN)/%
gateway: $(DIALECT_PB)
shared: $(LIBCRM) $(DESCS)

test: test-deps ## everything: unit, end to end over all dialects, sanitizers, fuzz smoke, Kafka (about half an hour)
	@tests/run

unit: $(TEST_BIN) $(DESCS) $(DIALECT_PB) $(FRAGMENTS) ## unit tests of this VARIANT
	@tests/unit $(TEST_BIN)

fuzz: $(FUZZ_BIN) $(DESCS) $(DIALECT_PB) $(FRAGMENTS) ## build the fuzz targets and run each for FUZZ_SECONDS (default 10)
	@tests/fuzz/run $(FUZZ_BIN)

bench: build ## measure product against raw statement, print the table, write build/bench.json
	@tests/bench/run

chaos: build ## CHAOS_SECONDS (600) of writes on BUS (postgres) while processes are killed; nothing lost, nothing doubled
	@tests/chaos/run

test-k8s: test-deps ## the charts on a real Kubernetes of two nodes: install, upgrade, roll back, drain, kill under load (root; about 12 minutes)
	@$(MAKE) --no-print-directory -j$$(nproc) build
	@tests/k8s/run

lint: ## banned functions, formats, shell scripts
	@tools/lint

contracts: ## are the contracts compatible with those of the last release? (tools/contracts says more)
	@tools/contracts check

stop: ## stop what `make run` started
	@./crm stop

clean: ## remove build/
	rm -rf build

.PHONY: help run deps test-deps test-k8s build $(PROGRAMS) shared test unit fuzz bench chaos lint contracts stop clean
