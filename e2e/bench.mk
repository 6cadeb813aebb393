# Benchmarks beside other software; see the package comment of e2e/benchproxy.

.PHONY: bench-proxy

bench-proxy: build ## Measure one HTTP/1.1 hop beside nginx and HAProxy (root, Linux, a quiet machine)
	@for each in wrk nginx haproxy nft; do command -v $$each >/dev/null && continue; \
		RUNLEVEL=1 apt-get install -qq -y --no-install-recommends wrk nginx-light haproxy nftables; break; done
	go run -trimpath ./e2e/benchproxy

.PHONY: bench-rollout
bench-rollout: ## Measure the controller with 2,000 Canaries at rest and 500 running (a quiet machine)
	$(BUILD) -o build/bin/ .
	go run -trimpath ./e2e/benchrollout
