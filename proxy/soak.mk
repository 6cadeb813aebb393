# SPDX-License-Identifier: Apache-2.0
# Tests of the proxy that `make test` runs shortened, at their whole length.

.PHONY: soak
soak: ## Run the proxy's long tests whole: about a quarter of an hour
	CGO_ENABLED=1 go test -trimpath -race -tags soak -count 1 -timeout 30m -run TestSoak ./proxy
