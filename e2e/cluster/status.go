// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Status prints which processes run, whether the nodes are ready and which pods are not, and returns
// an error unless all is well.
func Status(ctx context.Context, out io.Writer) error {
	c, err := Open()
	if err != nil {
		return err
	}
	var wrong []string
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !c.existing {
		wrong = append(wrong, c.layout.printComponents(table)...)
	}
	down, err := c.printNodes(ctx, table)
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	wrong = append(wrong, down...)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	_, _ = fmt.Fprintf(out, "\nKUBECONFIG=%s\n", c.Kubeconfig)
	if len(wrong) > 0 {
		return fmt.Errorf("the cluster is not well: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// printComponents lists what a complete cluster has.
func (l layout) printComponents(table io.Writer) (dead []string) {
	_, _ = fmt.Fprintln(table, "PROCESS\tPID\tLOG")
	names := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
	for _, n := range nodes() {
		names = append(names, n.name+"-containerd", n.name+"-kubelet", n.name+"-kube-proxy")
	}
	for _, name := range names {
		running, ok := l.running(name)
		if !ok {
			dead = append(dead, name+" does not run")
			_, _ = fmt.Fprintf(table, "%s\t-\t%s\n", name, l.log(name))
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%s\n", name, running.pid, l.log(name))
	}
	return dead
}

func (c *Cluster) printNodes(ctx context.Context, table io.Writer) (wrong []string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, fmt.Errorf("no answer within 5 s"))
	defer cancel()
	config, err := c.RestConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	_, _ = fmt.Fprintln(table, "\nNODE\tREADY\tVERSION")
	for _, n := range list.Items {
		if !nodeReady(n) {
			wrong = append(wrong, n.Name+" is not ready")
		}
		_, _ = fmt.Fprintf(table, "%s\t%v\t%s\n", n.Name, nodeReady(n), n.Status.NodeInfo.KubeletVersion)
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return wrong, fmt.Errorf("list pods: %w", err)
	}
	ready := 0
	for _, pod := range pods.Items {
		if podReady(pod) {
			ready++
		}
	}
	_, _ = fmt.Fprintf(table, "\npods ready\t%d of %d\t\n", ready, len(pods.Items))
	return wrong, nil
}

func podReady(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Exists tells whether there is something for Down to remove.
func Exists() bool {
	_, err := os.Stat(newLayout().dir)
	return err == nil
}
