// SPDX-License-Identifier: Apache-2.0

// Package cluster brings up a real Kubernetes with two nodes on one Linux machine: no Docker, no
// virtual machine, no registry. It needs root, Go and Debian's containerd, runc, CNI plugins,
// nftables and iproute2, which it installs when they are missing.
//
//	node-1  the machine itself, 172.30.0.1: etcd, kube-apiserver, kube-controller-manager,
//	        kube-scheduler, and a containerd, kubelet and kube-proxy of its own
//	node-2  the network namespace sluice-node-2, 172.30.0.2: a second containerd, kubelet, kube-proxy
//	pods    10.244.0.0/24 and 10.244.1.0/24; services 10.96.0.0/16; DNS at 10.96.0.10
//	API     https://172.30.0.1:16443, kubeconfig in <state>/admin.kubeconfig
//
// The state directory is /var/lib/sluice-cluster, or SLUICE_CLUSTER_DIR. Up is idempotent: it starts
// what does not run, restarts what would run differently, and goes on where an interrupted one
// stopped. The processes outlive the caller. Down leaves nothing behind but installed packages and
// built programs.
//
//	make cluster-up       go run ./e2e/cluster/cmd/cluster up
//	make cluster-status   go run ./e2e/cluster/cmd/cluster status
//	make cluster-down     go run ./e2e/cluster/cmd/cluster down
//
// Where this cannot run, Up says why; an existing cluster is used when KUBECONFIG names one and
// SLUICE_EXISTING_CLUSTER=yes says that it is meant. The second is asked for because tests create
// and delete things, and KUBECONFIG may point anywhere.
//
// It must not know Sluice: what runs in the cluster is brought by its users.
package cluster
