// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package cluster

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluice-mesh/sluice/e2e/binaries"
)

const (
	testNamespace = "sluice-bed-test"
	testManifest  = `
apiVersion: v1
kind: Namespace
metadata: {name: sluice-bed-test}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: sluice-bed-test}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: sluice.dev/podinfo:dev
        imagePullPolicy: Never
        securityContext: {runAsNonRoot: true}
        ports: [{name: http, containerPort: 9898}]
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: sluice-bed-test}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`
)

// TestPodsReachServicesAndNames asks from inside every pod's network namespace: both nodes' pods by
// address and through the Service (the pod itself among its endpoints), and the name of the Service.
func TestPodsReachServicesAndNames(t *testing.T) {
	cluster, err := Up(t.Context(), Options{Log: t.Output()})
	require.NoError(t, err)
	if cluster.Existing() {
		t.Skip("the nodes of an existing cluster cannot be entered")
	}
	builder, err := binaries.New(t.Output())
	require.NoError(t, err)
	program, err := builder.Tool(t.Context(), "podinfo")
	require.NoError(t, err)
	require.NoError(t, cluster.LoadImages(t.Context(), Image{
		Reference: "sluice.dev/podinfo:dev", Files: map[string]string{"/podinfo": program}, Entrypoint: []string{"/podinfo"},
	}))
	require.NoError(t, cluster.Apply(t.Context(), []byte(testManifest)))
	config, err := cluster.RestConfig()
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	t.Cleanup(func() { removeNamespace(t, client) })

	pods := awaitPods(t, client, len(nodes()))
	service, err := client.CoreV1().Services(testNamespace).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)
	inside := podNamespaces(t)
	for _, from := range pods {
		path := inside[from.Status.PodIP]
		require.NotEmpty(t, path, "network namespace of %s", from.Name)
		for _, to := range pods {
			require.NoError(t, inNamespace(path, func() error { return get(to.Status.PodIP + ":9898") }), "%s to %s", from.Name, to.Name)
		}
		// kube-proxy learns of endpoints a moment after their pods are ready.
		require.Eventually(t, func() bool {
			return inNamespace(path, func() error { return get(service.Spec.ClusterIP + ":80") }) == nil
		}, 10*time.Second, 100*time.Millisecond, "%s to the Service", from.Name)
		// Often enough that each endpoint is drawn, the pod itself too.
		for range 12 {
			require.NoError(t, inNamespace(path, func() error { return get(service.Spec.ClusterIP + ":80") }), "%s to the Service", from.Name)
		}
		require.NoError(t, inNamespace(path, func() error {
			return resolves("web."+testNamespace+".svc."+clusterDomain+".", service.Spec.ClusterIP)
		}))
	}
}

// removeNamespace waits until it is gone, so that the test can be run again at once.
func removeNamespace(t *testing.T, client kubernetes.Interface) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	namespaces := client.CoreV1().Namespaces()
	require.NoError(t, namespaces.Delete(ctx, testNamespace, metav1.DeleteOptions{}))
	require.NoError(t, poll(ctx, func(ctx context.Context) (bool, error) {
		_, err := namespaces.Get(ctx, testNamespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}))
}

func awaitPods(t *testing.T, client kubernetes.Interface, want int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	require.Eventually(t, func() bool {
		list, err := client.CoreV1().Pods(testNamespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return false
		}
		pods = nil
		for _, pod := range list.Items {
			if podReady(pod) {
				pods = append(pods, pod)
			}
		}
		return len(pods) == want
	}, time.Minute, 200*time.Millisecond)
	return pods
}

// podNamespaces finds each pod's network namespace by the address in it.
func podNamespaces(t *testing.T) map[string]string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	found := map[string]string{}
	for _, path := range mountPoints(string(mounts), newLayout().dir) {
		if !isNamespace(path) {
			continue
		}
		require.NoError(t, inNamespace(path, func() error {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			addresses, err := link.Addrs()
			if err != nil {
				return err
			}
			for _, address := range addresses {
				found[strings.Split(address.String(), "/")[0]] = path
			}
			return nil
		}))
	}
	return found
}

// get speaks HTTP by hand: a transport would dial from another thread, outside the namespace.
func get(address string) error {
	connection, err := net.DialTimeout("tcp4", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(connection, "GET /version HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, response.Status)
	}
	return nil
}

// resolves asks the cluster's DNS, by hand for the same reason.
func resolves(name, want string) error {
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := question.Pack()
	if err != nil {
		return err
	}
	connection, err := net.DialTimeout("udp4", dnsIP+":53", 3*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := connection.Write(packed); err != nil {
		return err
	}
	buffer := make([]byte, 1500)
	size, err := connection.Read(buffer)
	if err != nil {
		return err
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(buffer[:size]); err != nil {
		return err
	}
	for _, resource := range answer.Answers {
		if a, ok := resource.Body.(*dnsmessage.AResource); ok && net.IP(a.A[:]).String() == want {
			return nil
		}
	}
	return fmt.Errorf("%s does not resolve to %s: %s", name, want, answer.RCode)
}
