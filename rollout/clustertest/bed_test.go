// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/harness"
	"github.com/sluice-mesh/sluice/rollout"
)

const (
	patience = 2 * time.Minute
	tick     = 20 * time.Millisecond
	interval = 50 * time.Millisecond
	// gitManager is what Flux calls itself.
	gitManager = "kustomize-controller"
	app        = "app"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

// prepared installs definitions and admission policies once per test process.
var prepared = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := harness.InstallCRDs(ctx, cluster.Config, os.DirFS("../../config/crd")); err != nil {
		return err
	}
	c, err := client.New(cluster.Config, client.Options{Scheme: scheme()})
	if err != nil {
		return err
	}
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "sluice-system"}}
	if err := c.Create(ctx, system); err != nil {
		return err
	}
	for _, file := range []string{"webhook/hold-policy.yaml", "webhook/unpause-warning.yaml", "webhook/ownership-policy.yaml", "webhook/approval-policy.yaml", "rbac/sluice-controller.yaml"} {
		if err := installManifest(ctx, c, "../../config/"+file); err != nil {
			return fmt.Errorf("install %s: %w", file, err)
		}
	}
	if err := bind(ctx, c, "sluice-controller", controllerUser); err != nil {
		return err
	}
	if err := bindInSystem(ctx, c, "sluice-controller", controllerUser); err != nil {
		return err
	}
	own, err := client.New(as(controllerUser), client.Options{Scheme: scheme()})
	if err != nil {
		return err
	}
	// Twice: the second finds what the first has made.
	for range 2 {
		if seal, err = rollout.LoadSeal(ctx, own, "sluice-system"); err != nil {
			return err
		}
	}
	return nil
})

// seal signs the records of every test's controller.
var seal *rollout.Seal

// bindInSystem binds the Role of the same name in the controller's own namespace.
func bindInSystem(ctx context.Context, c client.Client, role, user string) error {
	return c.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "sluice-system", Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	})
}

// controllerUser is the account that the controller runs as, so that every test is a test of its role.
const controllerUser = "system:serviceaccount:sluice-system:sluice-controller"

func bind(ctx context.Context, c client.Client, role string, users ...string) error {
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{GenerateName: role + "-"}}
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	for _, user := range users {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: user})
	}
	return c.Create(ctx, binding)
}

// as is the API server's configuration for another user.
func as(user string, groups ...string) *rest.Config {
	cfg := rest.CopyConfig(cluster.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return cfg
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

func installManifest(ctx context.Context, c client.Client, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, document := range strings.Split(string(content), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			return err
		}
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"), client.ForceOwnership); err != nil {
			return err
		}
	}
	return nil
}

// bed is one test's namespace with a Deployment, a Canary, a played mesh and a played gate.
type bed struct {
	*testing.T
	client    client.Client
	namespace string
	mesh      *mesh
	gate      *gate
	// intercept wraps the controller's client when it starts.
	intercept func(client.WithWatch) client.Client
	// wrap is put around the controller's connections when it starts.
	wrap transport.WrapperFunc
	stop context.CancelFunc
}

// newBed makes the surroundings; the controller is started by start.
func newBed(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	return newLoneBed(t)
}

// newLoneBed is one beside which no other test runs.
func newLoneBed(t *testing.T) *bed {
	t.Helper()
	require.NoError(t, prepared())
	c, err := client.New(cluster.Config, client.Options{Scheme: scheme()})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rollout-"}}
	require.NoError(t, c.Create(t.Context(), namespace))
	b := &bed{T: t, client: c, namespace: namespace.Name, mesh: &mesh{logged: map[types.UID]int64{}}, gate: &gate{}}
	b.runManager(cluster.Config, func(mgr ctrl.Manager) error { return b.mesh.register(mgr) })
	b.awaitHeld(true)
	return b
}

// runManager runs a manager over the test's namespace until the test ends or it is stopped.
func (b *bed) runManager(cfg *rest.Config, register func(ctrl.Manager) error) context.CancelFunc {
	b.Helper()
	yes := true
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme(), Metrics: server.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{b.namespace: {}}},
		Controller: config.Controller{SkipNameValidation: &yes},
		NewClient: func(cfg *rest.Config, options client.Options) (client.Client, error) {
			inner, err := client.NewWithWatch(cfg, options)
			if err != nil || b.intercept == nil {
				return inner, err
			}
			return b.intercept(inner), nil
		},
	})
	require.NoError(b, err)
	require.NoError(b, register(mgr))
	ctx, cancel := context.WithCancel(b.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := mgr.Start(ctx); err != nil {
			b.Errorf("manager: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); ended.Wait() })
	b.Cleanup(stop)
	return stop
}

// start runs the controller; restart does it again, as after a crash.
func (b *bed) start() {
	b.Helper()
	cfg := as(controllerUser)
	cfg.Wrap(b.wrap)
	b.stop = b.runManager(cfg, func(mgr ctrl.Manager) error {
		return rollout.Register(mgr, rollout.Options{
			Interval: interval, SourceTimeout: time.Second, Seal: seal, Hooks: hooks(), Notifications: hooks(),
			Source: func(*v1alpha1.Canary) (analysis.Source, error) { return b.gate, nil },
		})
	})
}

func (b *bed) restart() {
	b.Helper()
	b.stop()
	b.start()
}

// cleaning is a context for what is done when a test has ended.
func (b *bed) cleaning() context.Context { return context.WithoutCancel(b.Context()) }

func (b *bed) eventually(what string, check func() bool) {
	b.Helper()
	deadline := time.Now().Add(patience)
	poll := time.NewTicker(tick)
	defer poll.Stop()
	for range poll.C {
		if check() {
			return
		}
		if time.Now().After(deadline) {
			b.dump()
			b.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// git applies the Deployment as Flux does: server-side, forced, without replicas.
func (b *bed) git(image string) {
	b.Helper()
	b.gitWith(image, nil)
}

func (b *bed) gitWith(image string, change func(*appsv1.Deployment)) {
	b.Helper()
	d := deployment(b.namespace, app, image, 0)
	d.Spec.Replicas = nil
	if change != nil {
		change(d)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	require.NoError(b, err)
	delete(object, "status")
	object["apiVersion"], object["kind"] = "apps/v1", "Deployment"
	u := &unstructured.Unstructured{Object: object}
	require.NoError(b, b.client.Apply(b.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(gitManager), client.ForceOwnership))
}

// rest brings up a stable Deployment of some replicas under a Canary.
func (b *bed) rest(image string, replicas int32, steps ...v1alpha1.Step) {
	b.Helper()
	b.git(image)
	b.scale(replicas)
	b.createCanary("app", steps...)
	b.awaitStable(image)
}

func (b *bed) createCanary(name string, steps ...v1alpha1.Step) *v1alpha1.Canary {
	b.Helper()
	if len(steps) == 0 {
		steps = []v1alpha1.Step{step(50), step(100)}
	}
	canary := &v1alpha1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.namespace},
		Spec: v1alpha1.CanarySpec{
			TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: app}, Steps: steps,
			Drain: &metav1.Duration{Duration: time.Second},
		},
	}
	require.NoError(b, b.client.Create(b.Context(), canary))
	return canary
}

func step(weight int32) v1alpha1.Step {
	return v1alpha1.Step{Weight: weight, Hold: metav1.Duration{Duration: time.Millisecond}}
}

// scale is what an autoscaler does.
func (b *bed) scale(replicas int32) {
	b.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	require.NoError(b, b.client.Patch(b.Context(), b.deployment(), patch, client.FieldOwner("horizontal-pod-autoscaler")))
}

func (b *bed) deployment() *appsv1.Deployment {
	b.Helper()
	d := &appsv1.Deployment{}
	require.NoError(b, b.client.Get(b.Context(), b.key(app), d))
	return d
}

func (b *bed) canary() *v1alpha1.Canary {
	b.Helper()
	canary := &v1alpha1.Canary{}
	require.NoError(b, b.client.Get(b.Context(), b.key("app"), canary))
	return canary
}

func (b *bed) run(name string) *v1alpha1.CanaryRun {
	b.Helper()
	run := &v1alpha1.CanaryRun{}
	require.NoError(b, b.client.Get(b.Context(), b.key(name), run))
	return run
}

func (b *bed) split() *v1alpha1.TrafficSplit {
	b.Helper()
	split := &v1alpha1.TrafficSplit{}
	if err := b.client.Get(b.Context(), b.key(app), split); err != nil {
		require.NoError(b, client.IgnoreNotFound(err))
		return nil
	}
	return split
}

func (b *bed) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: b.namespace, Name: name}
}

// pods are the live pods' UIDs by image.
func (b *bed) pods() map[string][]string {
	b.Helper()
	list := &corev1.PodList{}
	require.NoError(b, b.client.List(b.Context(), list, client.InNamespace(b.namespace), client.MatchingLabels{"app": app}))
	out := map[string][]string{}
	for i := range list.Items {
		if pod := &list.Items[i]; pod.DeletionTimestamp.IsZero() {
			out[pod.Spec.Containers[0].Image] = append(out[pod.Spec.Containers[0].Image], string(pod.UID))
		}
	}
	for _, uids := range out {
		slices.Sort(uids)
	}
	return out
}

// sets are the ReplicaSets by image; replicas of those there are.
func (b *bed) sets() []appsv1.ReplicaSet {
	b.Helper()
	list := &appsv1.ReplicaSetList{}
	require.NoError(b, b.client.List(b.Context(), list, client.InNamespace(b.namespace)))
	return slices.DeleteFunc(list.Items, func(rs appsv1.ReplicaSet) bool { return rs.Spec.Template.Labels["app"] != app })
}

func image(rs *appsv1.ReplicaSet) string { return rs.Spec.Template.Spec.Containers[0].Image }

// awaitStable waits until a revision is all there is, and says so.
func (b *bed) awaitStable(want string) {
	b.Helper()
	b.eventually(want+" is stable", func() bool {
		canary, d := b.canary(), b.deployment()
		return canary.Status.Phase == v1alpha1.PhaseStable && isTrue(canary, "Ready") &&
			canary.Status.ObservedWorkloadGeneration == d.Generation && !d.Spec.Paused &&
			d.Spec.Template.Spec.Containers[0].Image == want &&
			slices.Equal(slices.Collect(maps.Keys(b.pods())), []string{want})
	})
}

func (b *bed) awaitPhase(phase v1alpha1.Phase) {
	b.Helper()
	b.eventually("phase "+string(phase), func() bool { return b.canary().Status.Phase == phase })
}

// awaitHolding waits until a weight is in force.
func (b *bed) awaitHolding(weight int32) {
	b.Helper()
	b.eventually(fmt.Sprintf("holding at %d", weight), func() bool {
		canary := b.canary()
		return canary.Status.Phase == v1alpha1.PhaseHolding && canary.Status.Weight == weight
	})
}

func (b *bed) awaitCondition(kind, reason string) metav1.Condition {
	b.Helper()
	var found metav1.Condition
	b.eventually(kind+" "+reason, func() bool {
		for _, condition := range b.canary().Status.Conditions {
			if condition.Type == kind && condition.Reason == reason {
				found = condition
				return true
			}
		}
		return false
	})
	return found
}

func isTrue(canary *v1alpha1.Canary, kind string) bool {
	for _, condition := range canary.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == canary.Generation
		}
	}
	return false
}

// dump shows where things stand when a test gives up.
func (b *bed) dump() {
	for _, list := range []client.ObjectList{
		&v1alpha1.CanaryList{}, &v1alpha1.CanaryRunList{}, &v1alpha1.TrafficSplitList{}, &appsv1.DeploymentList{}, &appsv1.ReplicaSetList{},
	} {
		if err := b.client.List(context.WithoutCancel(b.Context()), list, client.InNamespace(b.namespace)); err != nil {
			b.Logf("list: %v", err)
			continue
		}
		if sets, ok := list.(*appsv1.ReplicaSetList); ok {
			for i := range sets.Items {
				rs := &sets.Items[i]
				b.Logf("set %s %s labels=%v owners=%d replicas=%d pods=%d ready=%d revision=%s", rs.Name, image(rs), rs.Labels,
					len(rs.OwnerReferences), *rs.Spec.Replicas, rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Annotations["deployment.kubernetes.io/revision"])
			}
			continue
		}
		raw, _ := yaml.Marshal(list)
		b.Logf("%T:\n%s", list, withoutManagedFields(string(raw)))
	}
}

func withoutManagedFields(text string) string {
	var out []string
	skipping := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "    managedFields:"):
			skipping = true
		case skipping && !strings.HasPrefix(line, "    -") && !strings.HasPrefix(line, "     "):
			skipping = false
		}
		if !skipping {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func deployment(namespace, name, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
			},
		},
	}
}
