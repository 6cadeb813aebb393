// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strconv"
)

// component is a process that keeps running.
type component struct {
	// name of its log and pid file.
	name      string
	arguments []string
	// reads are files whose change asks for a restart.
	reads []string
}

func (l layout) etcd(program string) component {
	client := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", etcdPeerPort)
	return component{name: "etcd", arguments: []string{
		program,
		"--data-dir=" + l.path("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}}
}

func (l layout) apiserver(program string) component {
	return component{name: "kube-apiserver", arguments: []string{
		program,
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		"--bind-address=" + gatewayIP,
		"--advertise-address=" + gatewayIP,
		"--secure-port=" + strconv.Itoa(apiPort),
		"--service-cluster-ip-range=" + serviceNetwork,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged",
		"--tls-cert-file=" + l.pki("apiserver.crt"),
		"--tls-private-key-file=" + l.pki("apiserver.key"),
		"--client-ca-file=" + l.pki("ca.crt"),
		"--service-account-key-file=" + l.pki("tokens.pub"),
		"--service-account-signing-key-file=" + l.pki("tokens.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		// Node names do not resolve.
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + l.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + l.pki("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + l.pki("ca.crt"),
		// The aggregation layer, which metrics-server needs.
		"--requestheader-client-ca-file=" + l.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + l.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + l.pki("front-proxy-client.key"),
	}}
}

// controllerManager looks at metrics often and forgets soon, so that autoscaling can be tested.
func (l layout) controllerManager(program string) component {
	return component{name: "kube-controller-manager", arguments: []string{
		program,
		"--kubeconfig=" + l.kubeconfig("controller-manager"),
		"--service-account-private-key-file=" + l.pki("tokens.key"),
		"--root-ca-file=" + l.pki("ca.crt"),
		"--cluster-signing-cert-file=" + l.pki("ca.crt"),
		"--cluster-signing-key-file=" + l.pki("ca.key"),
		"--use-service-account-credentials",
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=100",
		"--kube-api-burst=200",
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--horizontal-pod-autoscaler-downscale-stabilization=15s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=5s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=10s",
	}}
}

func (l layout) scheduler(program string) component {
	return component{name: "kube-scheduler", arguments: []string{
		program,
		"--kubeconfig=" + l.kubeconfig("scheduler"),
		"--leader-elect=false",
		"--secure-port=0",
	}}
}

func (l layout) containerd(n node) component {
	config := l.path(n.name, "containerd.toml")
	return component{name: n.name + "-containerd", reads: []string{config}, arguments: n.inside("containerd", "--config", config)}
}

func (l layout) kubelet(n node, program string) component {
	config := l.path(n.name, "kubelet.yaml")
	return component{name: n.name + "-kubelet", reads: []string{config, l.kubeconfig(n.name)}, arguments: n.inside(
		program,
		"--config="+config,
		"--kubeconfig="+l.kubeconfig(n.name),
		"--hostname-override="+n.name,
		"--node-ip="+n.ip,
		"--root-dir="+l.path(n.name, "kubelet"),
		"--cert-dir="+l.path(n.name, "kubelet", "pki"),
	)}
}

// proxy leaves the machine's connection tracking limits as they are.
func (l layout) proxy(n node, program string) component {
	return component{name: n.name + "-kube-proxy", arguments: n.inside(
		program,
		"--kubeconfig="+l.kubeconfig("proxy"),
		"--proxy-mode=nftables",
		"--cluster-cidr="+podNetwork,
		"--hostname-override="+n.name,
		fmt.Sprintf("--healthz-bind-address=127.0.0.1:%d", proxyHealthPort),
		fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", proxyMetricPort),
		"--conntrack-max-per-core=0",
		"--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s",
	)}
}
