# The demo; see the package comment of e2e/demo.

.PHONY: demo demo-once demo-down e2e e2e-whole

demo: ## Show a canary promoted and a bad one rolled back, from Git, on a real cluster (root, Linux)
	go run -trimpath ./e2e/demo

demo-once: ## The same as a check: removes the cluster and says by its exit code whether all went well
	DEMO_ONCE=1 go run -trimpath ./e2e/demo

demo-down: ## Remove the demo's cluster and everything it made
	go run -trimpath ./e2e/cluster/cmd/cluster down

# One package at a time: there is one cluster. Two processors carry three scenarios well; with a fourth the
# control plane answers late, and all of them take longer.
e2e: ## Play the scenarios on a real cluster with the real Flux (root, Linux)
	go test -trimpath -tags e2e -p 1 -parallel 3 -count 1 -timeout 45m -v ./e2e/cluster/... ./e2e/scenario/...

# Alone each, so that what is seen is the scenario's and not its neighbour's.
e2e-whole: ## Play the scenarios under 300 requests/s, and those that take minutes (about an hour)
	go test -trimpath -tags e2e,whole -count 1 -parallel 1 -timeout 120m -v ./e2e/scenario/...
