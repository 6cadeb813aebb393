# SPDX-License-Identifier: Apache-2.0

.PHONY: model
model: ## Search every small world for one in which the plan goes wrong
	go test -trimpath -count 1 -timeout 60m -v -run '^(TestModel|TestPageIsNotStale)$$' ./rollout/model -whole

.PHONY: model-update
model-update: ## Search, and write the transitions that were seen into docs/run.md
	go test -trimpath -count 1 -timeout 60m -v -run '^TestModel$$' ./rollout/model -whole -update

# The files that decide. MUTANTS=<n> tries a sample; a run that is stopped (Ctrl-C) reports what it has
# tried, which is a random sample too, and with KEEP=<file> goes on there. Verdicts are kept by what a
# function says: after an edit only its own mutants are tried again, survivors by tests that are new.
PLAN := $(addprefix rollout/,approval.go brake.go budget.go canary.go capacity.go consult.go deadline.go depend.go freeze.go \
	judge.go keep.go plan.go policy.go promote.go prune.go requests.go rollback.go split.go stable.go strategy.go unwind.go)
MUTANTS ?= 0

.PHONY: mutation
mutation: ## Break the plan on purpose and see whether its tests notice
	go run -trimpath ./internal/tools/mutation -faults rollout/model/testdata/faults.yaml -reasons rollout/model/testdata/survivors.yaml \
		-sample $(MUTANTS) -tests ./rollout,./rollout/model -report docs/mutation.md $(if $(KEEP),-keep $(KEEP)) $(PLAN)

# What the model believes of Deployments, held against older Kubernetes; make test does so with the newest.
.PHONY: e2e-versions
e2e-versions: ## Hold the model's Deployment controller against those of the two Kubernetes before (about 15 minutes)
	for minor in 1.35 1.34; do \
		SLUICE_KUBERNETES=$$minor go test -trimpath -tags harness -count 1 -v -run '^TestReal' ./rollout/model; \
	done
