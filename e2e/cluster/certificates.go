// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluice-mesh/sluice/e2e/pki"
)

// writeCertificates makes them all at once; the last file written says that they are complete.
func (l layout) writeCertificates(now time.Time) error {
	complete := l.pki("complete")
	if _, err := os.Stat(complete); err == nil {
		return nil
	}
	if err := os.MkdirAll(l.path("pki"), 0o700); err != nil {
		return fmt.Errorf("create the certificate directory: %w", err)
	}
	authority, err := pki.NewAuthority("sluice-cluster", now)
	if err != nil {
		return err
	}
	front, err := pki.NewAuthority("sluice-cluster-front-proxy", now)
	if err != nil {
		return err
	}
	private, public, err := pki.NewSigningKey()
	if err != nil {
		return err
	}
	if err := errors.Join(
		authority.Write(l.path("pki"), "ca"),
		front.Write(l.path("pki"), "front-proxy-ca"),
		os.WriteFile(l.pki("tokens.key"), private, 0o600),
		os.WriteFile(l.pki("tokens.pub"), public, 0o644),
		l.issue(authority, "apiserver", now, pki.Subject{
			User:  "kube-apiserver",
			Names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain},
			IPs:   []string{gatewayIP, firstServiceIP, "127.0.0.1"},
		}),
		l.issue(authority, "apiserver-kubelet", now, pki.Subject{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}}),
		l.issue(front, "front-proxy-client", now, pki.Subject{User: "front-proxy-client"}),
		l.user(authority, "admin", now, pki.Subject{User: "sluice-admin", Groups: []string{"system:masters"}}),
		l.user(authority, "controller-manager", now, pki.Subject{User: "system:kube-controller-manager"}),
		l.user(authority, "scheduler", now, pki.Subject{User: "system:kube-scheduler"}),
		l.user(authority, "proxy", now, pki.Subject{User: "system:kube-proxy"}),
	); err != nil {
		return err
	}
	for _, n := range nodes() {
		if err := l.user(authority, n.name, now, pki.Subject{
			User: "system:node:" + n.name, Groups: []string{"system:nodes"}, Names: []string{n.name}, IPs: []string{n.ip},
		}); err != nil {
			return err
		}
	}
	return os.WriteFile(complete, nil, 0o644)
}

func (l layout) issue(authority *pki.Authority, name string, now time.Time, subject pki.Subject) error {
	pair, err := authority.Issue(subject, now)
	if err != nil {
		return err
	}
	return pair.Write(l.path("pki"), name)
}

// user issues a certificate and a kubeconfig that uses it.
func (l layout) user(authority *pki.Authority, name string, now time.Time, subject pki.Subject) error {
	pair, err := authority.Issue(subject, now)
	if err != nil {
		return err
	}
	kubeconfig, err := authority.Kubeconfig(server(), "sluice-cluster", pair)
	if err != nil {
		return err
	}
	return errors.Join(
		pair.Write(l.path("pki"), name),
		os.WriteFile(l.kubeconfig(name), kubeconfig, 0o600),
	)
}
