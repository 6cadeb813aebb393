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

.PHONY: bench-rollout-few
bench-rollout-few: ## The same with 80 runs at once: what one of them takes, and not their number
	$(BUILD) -o build/bin/ .
	go run -trimpath ./e2e/benchrollout -idle 20 -running 80 -measure 10s -results build/results/bench-rollout-few.json -table docs/benchmarks/rollout-few.md
