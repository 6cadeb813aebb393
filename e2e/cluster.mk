# The two-node test cluster; see the package comment of e2e/cluster. The flag is that of every build:
# the compiler's cache is shared.

cluster-up: ## Bring up the two-node test cluster (root, Linux)
	go run -trimpath ./e2e/cluster/cmd/cluster up

cluster-down: ## Remove the test cluster and everything it made
	go run -trimpath ./e2e/cluster/cmd/cluster down

cluster-status: ## Say whether the test cluster is well
	go run -trimpath ./e2e/cluster/cmd/cluster status

.PHONY: cluster-up cluster-down cluster-status
