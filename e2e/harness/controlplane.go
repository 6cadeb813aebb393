// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluice-mesh/sluice/e2e/pki"
)

// programs are the paths of the built ones.
type programs struct {
	etcd, api, manager string
}

// controlPlane knows the command lines.
type controlPlane struct {
	programs
	dir   string
	ports ports
}

type ports struct {
	etcdClient, etcdPeer, api int
}

// newControlPlane chooses ports and writes keys, certificates and the administrator's kubeconfig.
func newControlPlane(dir string, programs programs, now time.Time) (*controlPlane, error) {
	free, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	plane := &controlPlane{programs: programs, dir: dir, ports: ports{free[0], free[1], free[2]}}
	authority, err := pki.NewAuthority("harness", now)
	if err != nil {
		return nil, err
	}
	server, err := authority.Issue(pki.Subject{
		User: "kube-apiserver", Names: []string{"localhost", "kubernetes.default.svc"}, IPs: []string{"127.0.0.1", "10.96.0.1"},
	}, now)
	if err != nil {
		return nil, err
	}
	administrator, err := authority.Issue(pki.Subject{User: "admin", Groups: []string{"system:masters"}}, now)
	if err != nil {
		return nil, err
	}
	private, public, err := pki.NewSigningKey()
	if err != nil {
		return nil, err
	}
	kubeconfig, err := authority.Kubeconfig("https://127.0.0.1:"+strconv.Itoa(plane.ports.api), "harness", administrator)
	if err != nil {
		return nil, err
	}
	return plane, errors.Join(
		authority.Write(dir, "ca"),
		server.Write(dir, "server"),
		os.WriteFile(plane.file("tokens.key"), private, 0o600),
		os.WriteFile(plane.file("tokens.pub"), public, 0o600),
		os.WriteFile(plane.file("admin.kubeconfig"), kubeconfig, 0o600),
	)
}

func (c *controlPlane) etcdCommand() command {
	client := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdClient)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdPeer)
	return command{name: "etcd", log: c.file("etcd.log"), path: c.etcd, arguments: []string{
		"--data-dir=" + c.file("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}}
}

func (c *controlPlane) apiCommand() command {
	return command{name: "kube-apiserver", log: c.file("kube-apiserver.log"), path: c.api, arguments: []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.etcdClient),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.api),
		"--tls-cert-file=" + c.file("server.crt"),
		"--tls-private-key-file=" + c.file("server.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--service-account-key-file=" + c.file("tokens.pub"),
		"--service-account-signing-key-file=" + c.file("tokens.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=RBAC",
		"--allow-privileged",
		"--endpoint-reconciler-type=none",
		"--enable-priority-and-fairness=false",
		"--profiling=false",
	}}
}

// managerCommand leaves out the controllers that judge nodes: the one node has no heartbeat.
func (c *controlPlane) managerCommand() command {
	return command{name: "kube-controller-manager", log: c.file("kube-controller-manager.log"), path: c.manager, arguments: []string{
		"--kubeconfig=" + c.file("admin.kubeconfig"),
		"--controllers=*,-node-lifecycle-controller,-taint-eviction-controller,-device-taint-eviction-controller," +
			"-pod-garbage-collector-controller,-persistentvolume-attach-detach-controller,-node-ipam-controller,-node-route-controller," +
			"-service-lb-controller,-cloud-node-lifecycle-controller",
		"--service-account-private-key-file=" + c.file("tokens.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--profiling=false",
	}}
}

func (c *controlPlane) file(name string) string { return filepath.Join(c.dir, name) }

// freePorts asks the kernel for them all at once, so that they differ.
func freePorts(count int) ([]int, error) {
	var found []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		address, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("find a free port: %s is no TCP address", listener.Addr())
		}
		found = append(found, address.Port)
	}
	return found, nil
}
