// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const systemNamespace = "kube-system"

// answers tells whether something accepts connections on a socket.
func answers(socket string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return false, err
		}
		return true, connection.Close()
	}
}

// dns loads and applies CoreDNS, without name servers of the machine when there are none that pods
// can reach.
func (u *bringUp) dns(ctx context.Context) error {
	machine, err := os.ReadFile(u.layout.path("resolv.conf"))
	if err != nil {
		return fmt.Errorf("read the pods' name servers: %w", err)
	}
	_, servers := resolvConf(string(machine))
	return u.addon(ctx, "coredns", map[string]any{"IP": dnsIP, "Domain": clusterDomain, "Forward": len(servers) > 0})
}

func (u *bringUp) metrics(ctx context.Context) error {
	return u.addon(ctx, "metrics-server", map[string]any{})
}

// addon loads the image of a tool and applies the manifest of the same name.
func (u *bringUp) addon(ctx context.Context, name string, values map[string]any) error {
	program, err := u.programs.Wait(ctx, name)
	if err != nil {
		return err
	}
	image := "sluice.dev/" + name + ":dev"
	if err := u.cluster.LoadImages(ctx, Image{
		Reference: image, Files: map[string]string{"/" + name: program}, Entrypoint: []string{"/" + name},
	}); err != nil {
		return err
	}
	values["Image"] = image
	manifest, err := render("manifests/"+name+".yaml", values)
	if err != nil {
		return err
	}
	return u.cluster.Apply(ctx, manifest)
}

func (u *bringUp) dnsReady(ctx context.Context) error {
	return u.layout.await(ctx, func(ctx context.Context) (bool, error) {
		deployment, err := u.client.AppsV1().Deployments(systemNamespace).Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		// One of two answers queries; the other may take its time.
		available := deployment.Status.AvailableReplicas > 0 && deployment.Status.ObservedGeneration == deployment.Generation
		return available, fmt.Errorf("%d of %d CoreDNS pods are available", deployment.Status.AvailableReplicas, deployment.Status.Replicas)
	}, "kube-apiserver", "kube-scheduler", "kube-controller-manager")
}
