# The two-node test cluster; see the package comment of e2e/cluster.

cluster-up: ## Bring up the two-node test cluster (root, Linux)
	go run ./e2e/cluster/cmd/cluster up

cluster-down: ## Remove the test cluster and everything it made
	go run ./e2e/cluster/cmd/cluster down

cluster-status: ## Say whether the test cluster is well
	go run ./e2e/cluster/cmd/cluster status

.PHONY: cluster-up cluster-down cluster-status
