# make run    build and run one broker with everything in ./coldbrook-data
# make test   everything that passes on a fresh machine with Go; installs what else it needs
# make e2e    the main job on real input, in containers where there is an engine
# make chaos  three brokers under load and kill -9 for ten minutes, then pauses and cut links
# make bench  measured numbers beside the limits of this machine; BENCH='--only replay' for a part of it
# make benchcluster  the same of three brokers: failover, moves, cost of replication

GO      ?= go
BIN     := bin/coldbrook
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 60s
SEEDS   ?= 100
CHAOS   ?= 10m
BENCH   ?=

.PHONY: run build test e2e chaos sim bench benchcluster fuzz lint tools clean

run: build
	$(BIN) serve

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/coldbrook

# The race detector and librdkafka need a C compiler, the scenarios kcat.
tools:
	@./e2e/tools.sh

# The brokers that tests start are built with the race detector too, and end
# where it finds one. One kind of build for all is also what a fresh machine is
# fastest with: most of the time goes into compiling, so vet runs with the tests.
# The tests of e2e/servers come first: they build the servers for the others. Those
# that run clusters of real processes, with leases and elections, have the machine
# to themselves. What runs whole clusters in synctest bubbles gets one processor
# each: under the race detector the runtime (Go 1.26, maybeRunChan) lets two fire
# timers of one bubble in one race context, which then reads beyond its stack.
BUBBLES := broker/(api|coordinator.*|replica)|metadata(/controller)?|tiering(/(cost|read))?|e2e/sim
test: export COLDBROOK_BINARY := $(CURDIR)/bin/coldbrook-race
test: export GORACE := halt_on_error=1 atexit_sleep_ms=10
test: tools
	$(GO) build -race -o $(COLDBROOK_BINARY) ./cmd/coldbrook
	$(GO) test -race -vet=all -timeout 30m ./e2e/servers
	$(GO) test -race -vet=all -shuffle=on -timeout 15m -cpu 1 $$($(GO) list ./... | grep -x -E '[^/]+/[^/]+/[^/]+/($(BUBBLES))')
	$(GO) test -race -vet=all -shuffle=on -timeout 15m $$($(GO) list ./... | grep -v -x -E '[^/]+/[^/]+/[^/]+/($(BUBBLES)|metadata/kv|e2e)')
	$(GO) test -race -vet=all -shuffle=on -timeout 15m -parallel 1 ./metadata/kv
	$(GO) test -race -vet=all -shuffle=on -timeout 15m ./e2e
	cd e2e/compat && $(GO) test -race -vet=all -shuffle=on -timeout 15m ./...

e2e: tools build
	COLDBROOK_BINARY=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 75m -v -tags e2e ./e2e

# With links that can be cut if it runs as root.
chaos: tools build
	COLDBROOK_BINARY=$(CURDIR)/$(BIN) COLDBROOK_CHAOS=$(CHAOS) $(GO) test -count=1 -timeout 120m -v -tags e2e -run '^TestChaos$$' ./e2e

sim:
	$(GO) test -count=1 -timeout 60m ./e2e/sim -seeds $(SEEDS)

bench: build
	$(GO) run ./e2e/bench --broker $(BIN) $(BENCH)

benchcluster: tools build
	$(GO) run ./e2e/bench --broker $(BIN) --cluster $(BENCH)

fuzz:
	@set -e; for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) test ./e2e/archtest

clean:
	rm -rf bin
