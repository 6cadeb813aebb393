# SPDX-License-Identifier: Apache-2.0
# What software of others says of the proxy.

H2SPEC := $(call tools,h2spec)

$(H2SPEC):
	go -C internal/tools/h2spec build -trimpath -ldflags "-s -w" -o $@.new/ tool
	mv $@.new $@

.PHONY: conformance-h2
conformance-h2: $(H2SPEC) ## Run h2spec against the proxy
	SLUICE_H2SPEC=$(H2SPEC)/h2spec go test -trimpath -count 1 -v -run TestH2Spec ./proxy/interop

.PHONY: interop-grpc
interop-grpc: ## Run gRPC's own client and server through proxies
	go test -trimpath -count 1 -v -run 'TestInterop|TestPodsThatLeave' ./proxy/interop
