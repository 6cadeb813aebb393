# SPDX-License-Identifier: Apache-2.0

# Runs per cell of the simulation, and of the null hypothesis in the long form of its test.
VERDICT_RUNS ?= 400
NULL_RUNS ?= 100000

.PHONY: bench-verdict
bench-verdict: false-rollbacks ## Simulate the gate beside other tools' rules; writes docs/benchmarks/verdict.md
	go run -trimpath ./analysis/simulation/cmd/verdict -runs $(VERDICT_RUNS)

.PHONY: false-rollbacks
false-rollbacks: ## Count how often a canary at the edge of what is tolerated is rolled back
	SLUICE_NULL_RUNS=$(NULL_RUNS) go test -trimpath -count 1 -timeout 120m -run TestFalseRollbacks -v ./analysis
