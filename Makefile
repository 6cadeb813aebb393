# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export CGO_ENABLED ?= 0

# Programs that others wrote, pinned by the go.mod files under internal/tools, built once per version.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice/tools
tools = $(CACHE)/$(1)-$(firstword $(shell cat internal/tools/$(1)/go.mod internal/tools/$(1)/go.sum | sha256sum | cut -c1-12))
CODEGEN := $(call tools,codegen)
LINT := $(call tools,lint)
GENERATED := api config chart mesh/meshpb
# The flags are part of the build cache's key: one set everywhere, and each package is compiled once.
BUILD := go build -trimpath -ldflags "-s -w"

.PHONY: help
help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include e2e/cluster.mk
-include e2e/demo.mk
-include analysis/bench.mk
-include rollout/model.mk
-include e2e/bench.mk
-include proxy/conformance.mk
-include proxy/soak.mk

.PHONY: build
build: ## Build the programs into build/bin
	$(BUILD) -o build/bin/ . ./proxy/cmd/sluice-proxy ./mesh/redirect/cmd/sluice-redirect

.PHONY: generate
generate: $(CODEGEN) protoc ## Write what is generated: definitions, roles, deep copies, protocol, the chart's copies
	PATH="$(CODEGEN):$$PATH" internal/tools/generate.sh

.PHONY: protoc
protoc:
	@command -v protoc >/dev/null || apt-get install -qq -y --no-install-recommends protobuf-compiler

$(CODEGEN):
	go -C internal/tools/codegen build -trimpath -ldflags "-s -w" -o $@.new/ tool
	mv $@.new $@

$(LINT):
	go -C internal/tools/lint build -trimpath -ldflags "-s -w" -o $@.new/ tool
	mv $@.new $@

.PHONY: verify
verify: generate ## Fail when something generated is stale
	@stale="$$(git status --porcelain -- $(GENERATED))"; \
	if [ -n "$$stale" ]; then printf 'stale or uncommitted, run make generate and commit:\n%s\n' "$$stale"; git --no-pager diff -- $(GENERATED); exit 1; fi

# The linter keeps findings by content but with the path of the checkout that it saw them in, where it
# then looks for the nolint comments: each checkout has a cache of its own.
.PHONY: lint
lint: $(LINT) ## Run the linters
	GOLANGCI_LINT_CACHE="$(CURDIR)/build/lint-cache" GOFLAGS=-trimpath $(LINT)/golangci-lint run --allow-parallel-runners ./...

# The race detector needs cgo and compiles everything once more, so it runs over Sluice itself; the
# test bed's own tests share the builds' flags and with them the compiler's cache.
CORE := ./api/... ./analysis/... ./internal/... ./mesh/... ./proxy/... ./rollout/...

.PHONY: unit
unit: ## Run the tests that need nothing
	CGO_ENABLED=1 go test -race $(CORE)
	go test -trimpath . ./chart/... ./config/... ./e2e/... ./rollout/model

.PHONY: netns
netns: ## Run the tests in network namespaces (as root)
	CGO_ENABLED=1 go test -race -tags netns -run Netns ./mesh/redirect/... ./proxy/...

.PHONY: harness
harness: ## Run the tests on a real API server with a fake kubelet
	go test -trimpath -tags harness -p 2 -skip '^TestModel$$' ./rollout/clustertest ./rollout/model ./internal/cli ./mesh ./config ./analysis/prometheus ./e2e/harness ./e2e/flux ./e2e/demosync

.PHONY: test
test: ## Run everything: what CI runs
	$(MAKE) verify
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) netns
	$(MAKE) harness
	$(MAKE) e2e
	$(MAKE) demo-once
