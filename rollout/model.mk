# SPDX-License-Identifier: Apache-2.0

.PHONY: model
model: ## Search every small world for one in which the plan goes wrong
	go test -trimpath -count 1 -timeout 60m -v -run '^(TestModel|TestPageIsNotStale)$$' ./rollout/model -whole

.PHONY: model-update
model-update: ## Search, and write the transitions that were seen into docs/run.md
	go test -trimpath -count 1 -timeout 60m -v -run '^TestModel$$' ./rollout/model -whole -update

# The files that decide. All mutants are compiled into one program: MUTANTS=0 tries all of them;
# with KEEP=<file> a run that was stopped goes on.
PLAN := $(addprefix rollout/,approval.go brake.go budget.go canary.go capacity.go consult.go deadline.go depend.go freeze.go \
	judge.go keep.go plan.go policy.go promote.go prune.go requests.go rollback.go split.go stable.go strategy.go unwind.go)
MUTANTS ?= 200

.PHONY: mutation
mutation: ## Break the plan on purpose and see whether its tests notice
	go run -trimpath ./internal/tools/mutation -faults rollout/model/testdata/faults.yaml -reasons rollout/model/testdata/survivors.yaml \
		-sample $(MUTANTS) -tests ./rollout,./rollout/model -report docs/mutation.md $(if $(KEEP),-keep $(KEEP)) $(PLAN)
