#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes every generated file of the repository; `make generate` puts the programs on the path.
set -euo pipefail
cd "$(dirname "$0")/../.."

before="$(mktemp -d)"
trap 'rm -rf "$before"' EXIT
cp -a --parents api config chart mesh/meshpb "$before"

controller-gen object paths=./api/... crd:maxDescLen=1000 output:crd:dir=config/crd
controller-gen rbac:roleName=sluice-controller,fileName=sluice-controller.yaml paths=./rollout/... output:rbac:dir=config/rbac
controller-gen rbac:roleName=sluice-mesh,fileName=sluice-mesh.yaml paths=./mesh/... output:rbac:dir=config/rbac
protoc --go_out=. --go_opt=paths=source_relative \
  --connect-go_out=. --connect-go_opt=paths=source_relative,simple,package_suffix= mesh/meshpb/mesh.proto

# The chart cannot reach outside its own directory: it gets copies.
rm -rf chart/crds chart/files
mkdir -p chart/crds chart/files/rbac chart/files/webhook
cp config/crd/*.yaml chart/crds/
cp config/rbac/*.yaml chart/files/rbac/
cp config/webhook/*.yaml chart/files/webhook/

# Go's test cache goes by the times of the files that a test has read: what comes out as it was keeps its own.
(cd "$before" && find . -depth -print0) | while IFS= read -r -d '' path; do
  if [ -d "$path" ] || cmp -s "$before/$path" "$path"; then touch -r "$before/$path" "$path"; fi
done
