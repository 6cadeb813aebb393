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
	go -C internal/tools/codegen build -o $@.new/ tool
	mv $@.new $@

$(LINT):
	go -C internal/tools/lint build -o $@.new/ tool
	mv $@.new $@

.PHONY: verify
verify: generate ## Fail when something generated is stale
	@stale="$$(git status --porcelain -- $(GENERATED))"; \
	if [ -n "$$stale" ]; then printf 'stale or uncommitted, run make generate and commit:\n%s\n' "$$stale"; git --no-pager diff -- $(GENERATED); exit 1; fi

.PHONY: lint
lint: $(LINT) ## Run the linters
	$(LINT)/golangci-lint run ./...

.PHONY: unit
unit: ## Run the tests that need nothing
	CGO_ENABLED=1 go test -race ./...

# Packages that have tests with a build tag: the others' tests are unit's.
tagged = $(shell grep -rl --include=*_test.go '^//go:build.*\b$(1)\b' . | xargs -n1 dirname | sort -u)

.PHONY: netns
netns: ## Run the tests in network namespaces (as root)
	CGO_ENABLED=1 go test -race -tags netns -run Netns $(call tagged,netns)

.PHONY: harness
harness: ## Run the tests against a real API server with a fake kubelet
	CGO_ENABLED=1 go test -race -tags harness ./e2e/harness $(call tagged,harness)

.PHONY: test
test: verify lint unit harness netns e2e demo-once ## Run everything
