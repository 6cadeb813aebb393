// SPDX-License-Identifier: Apache-2.0

package harness_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sluice-mesh/sluice/e2e/harness"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

const (
	patience = 30 * time.Second
	tick     = 20 * time.Millisecond
)

func TestDeploymentBecomesAvailableAndRolls(t *testing.T) {
	client, namespace := clientAndNamespace(t, "rolls")
	deploy(t, client, namespace, "v1")
	awaitRolledOut(t, client, namespace, "v1")

	deployments := client.AppsV1().Deployments(namespace)
	_, err := deployments.Patch(t.Context(), "app", types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	awaitRolledOut(t, client, namespace, "v2")
	require.Eventually(t, func() bool { return len(pods(t, client, namespace)) == 3 }, patience, tick, "the old pods go")
}

func TestTestsSteerPods(t *testing.T) {
	t.Cleanup(cluster.Kubelet.Reset)
	client, namespace := clientAndNamespace(t, "steer")
	mine := func(pod *corev1.Pod) bool { return pod.Namespace == namespace }

	cluster.Kubelet.SetReady(func(pod *corev1.Pod) bool { return !mine(pod) })
	cluster.Kubelet.SetSchedulable(func(pod *corev1.Pod) bool { return !mine(pod) })
	deploy(t, client, namespace, "v1")
	require.Eventually(t, func() bool { return count(t, client, namespace, unschedulable) == 3 }, patience, tick)

	cluster.Kubelet.SetSchedulable(nil)
	require.Eventually(t, func() bool { return count(t, client, namespace, running) == 3 }, patience, tick)
	require.Zero(t, count(t, client, namespace, ready))

	cluster.Kubelet.SetReady(nil)
	awaitRolledOut(t, client, namespace, "v1")

	cluster.Kubelet.SetGone(func(pod *corev1.Pod) bool { return !mine(pod) })
	first := pods(t, client, namespace)[0]
	require.NoError(t, client.CoreV1().Pods(namespace).Delete(t.Context(), first.Name, metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return count(t, client, namespace, ready) == 4 }, patience, tick, "one terminating, three to serve")
	cluster.Kubelet.SetGone(nil)
	require.Eventually(t, func() bool { return len(pods(t, client, namespace)) == 3 }, patience, tick)

	victim := pods(t, client, namespace)[0].UID
	cluster.Kubelet.SetFailed(func(pod *corev1.Pod) bool { return pod.UID == victim })
	require.Eventually(t, func() bool {
		return count(t, client, namespace, failed) == 1 && count(t, client, namespace, ready) == 3
	}, patience, tick, "the failed pod is replaced")
}

func TestControllerManagerStopsAndStarts(t *testing.T) {
	client, namespace := clientAndNamespace(t, "stops")
	cluster.StopControllerManager()
	deploy(t, client, namespace, "v1")
	require.Never(t, func() bool { return len(pods(t, client, namespace)) > 0 }, 500*time.Millisecond, 50*time.Millisecond)
	require.NoError(t, cluster.StartControllerManager())
	awaitRolledOut(t, client, namespace, "v1")
}

func TestMutatingAdmissionPolicyIsServed(t *testing.T) {
	client, err := kubernetes.NewForConfig(cluster.Config)
	require.NoError(t, err)
	resources, err := client.Discovery().ServerResourcesForGroupVersion(admissionregistrationv1.SchemeGroupVersion.String())
	require.NoError(t, err)
	var names []string
	for _, resource := range resources.APIResources {
		names = append(names, resource.Name)
	}
	require.Contains(t, names, "mutatingadmissionpolicies")
	version, err := client.Discovery().ServerVersion()
	require.NoError(t, err)
	require.NotContains(t, version.GitVersion, "master")
}

func TestInstallCRDs(t *testing.T) {
	files := os.DirFS("../../config/crd")
	for range 2 {
		require.NoError(t, harness.InstallCRDs(t.Context(), cluster.Config, files))
	}
	client, err := kubernetes.NewForConfig(cluster.Config)
	require.NoError(t, err)
	_, err = client.Discovery().ServerResourcesForGroupVersion("sluice.dev/v1alpha1")
	require.NoError(t, err)
}

func clientAndNamespace(t *testing.T, name string) (kubernetes.Interface, string) {
	t.Helper()
	client, err := kubernetes.NewForConfig(cluster.Config)
	require.NoError(t, err)
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return client, name
}

func deploy(t *testing.T, client kubernetes.Interface, namespace, version string) {
	t.Helper()
	labels := map[string]string{"app": "app"}
	replicas := int32(3)
	_, err := client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:" + version}}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func awaitRolledOut(t *testing.T, client kubernetes.Interface, namespace, version string) {
	t.Helper()
	require.Eventually(t, func() bool {
		deployment, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "app", metav1.GetOptions{})
		return err == nil && deployment.Status.ObservedGeneration == deployment.Generation &&
			deployment.Status.UpdatedReplicas == 3 && deployment.Status.AvailableReplicas == 3 && deployment.Status.Replicas == 3
	}, patience, tick, "%s is rolled out", version)
}

func pods(t *testing.T, client kubernetes.Interface, namespace string) []corev1.Pod {
	list, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return list.Items
}

func count(t *testing.T, client kubernetes.Interface, namespace string, is func(corev1.PodStatus) bool) int {
	found := 0
	for _, pod := range pods(t, client, namespace) {
		if is(pod.Status) {
			found++
		}
	}
	return found
}

func running(status corev1.PodStatus) bool { return status.Phase == corev1.PodRunning }
func failed(status corev1.PodStatus) bool  { return status.Phase == corev1.PodFailed }

func ready(status corev1.PodStatus) bool {
	return holds(status, corev1.PodReady, corev1.ConditionTrue, "")
}

func unschedulable(status corev1.PodStatus) bool {
	return holds(status, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable)
}

func holds(status corev1.PodStatus, kind corev1.PodConditionType, value corev1.ConditionStatus, reason string) bool {
	for _, condition := range status.Conditions {
		if condition.Type == kind && condition.Status == value && condition.Reason == reason {
			return true
		}
	}
	return false
}
