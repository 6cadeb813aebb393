// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func surroundings(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.RolloutPolicy{}, &v1alpha1.Canary{}).Build()
}

func dependsOn(name string, others ...v1alpha1.CanaryReference) *v1alpha1.Canary {
	canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	canary.Spec.DependsOn = others
	return canary
}

// What a Canary waits for is read with its phase; who waits for each other is told the shortest circle.
func TestDependenciesAreRead(t *testing.T) {
	base := dependsOn("base")
	base.Status.Phase = v1alpha1.PhaseHolding
	far := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "db"}}
	far.Status.Phase = v1alpha1.PhaseRejected
	for _, c := range []struct {
		name   string
		canary *v1alpha1.Canary
		want   []Dependency
		circle []string
	}{
		{"nothing", dependsOn("web"), nil, nil},
		{"its own namespace and another", dependsOn("web", v1alpha1.CanaryReference{Name: "base"}, v1alpha1.CanaryReference{Namespace: "data", Name: "db"}),
			[]Dependency{{"shop", "base", v1alpha1.PhaseHolding}, {"data", "db", v1alpha1.PhaseRejected}}, nil},
		{"what is not there", dependsOn("web", v1alpha1.CanaryReference{Name: "none"}), []Dependency{{"shop", "none", ""}}, nil},
		{"itself", dependsOn("web", v1alpha1.CanaryReference{Name: "web"}), []Dependency{{"shop", "web", ""}}, []string{"shop/web", "shop/web"}},
		{"a circle, and a longer one", dependsOn("web", v1alpha1.CanaryReference{Name: "long"}, v1alpha1.CanaryReference{Name: "cart"}),
			[]Dependency{{"shop", "long", ""}, {"shop", "cart", ""}}, []string{"shop/web", "shop/cart", "shop/web"}},
		{"a circle of others", dependsOn("new", v1alpha1.CanaryReference{Name: "one"}), []Dependency{{"shop", "one", ""}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := surroundings(t, base, far, dependsOn("long", v1alpha1.CanaryReference{Name: "cart"}),
				dependsOn("cart", v1alpha1.CanaryReference{Name: "web"}, v1alpha1.CanaryReference{Name: "base"}),
				dependsOn("one", v1alpha1.CanaryReference{Name: "two"}), dependsOn("two", v1alpha1.CanaryReference{Name: "one"}))
			s := &scene{canary: c.canary}
			require.NoError(t, (&observer{cached: api}).dependencies(t.Context(), s))
			require.Equal(t, c.want, s.Dependencies)
			require.Equal(t, c.circle, s.Circle)
		})
	}
}

// Policies select namespaces by their labels; one that cannot be read is named, and counts for nobody.
func TestPoliciesAreRead(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "shop"}}}
	selecting := func(name string, selector *metav1.LabelSelector, limit *int32) *v1alpha1.RolloutPolicy {
		policy := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
		policy.Spec.NamespaceSelector, policy.Spec.MaxConcurrentRuns = selector, limit
		return policy
	}
	team := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"team": name}}
	}
	limit := int32(1)
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	web, first := inQueue("shop", "web", now, 0), inQueue("shop", "first", now.Add(-time.Hour), 0)
	held := v1alpha1.PhaseHeld
	for _, c := range []struct {
		name    string
		objects []client.Object
		phase   v1alpha1.Phase
		want    []string
		slots   []Slot
		fault   string
	}{
		{"none", []client.Object{namespace}, held, nil, nil, ""},
		{"all, and those of the team", []client.Object{namespace, selecting("b", nil, nil), selecting("a", team("shop"), nil), selecting("c", team("bank"), nil)},
			held, []string{"a", "b"}, nil, ""},
		{"one that cannot be read", []client.Object{namespace, selecting("b", nil, nil), selecting("a", &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Like"}}}, nil)}, held, []string{"b"}, nil,
			"RolloutPolicy a: spec.namespaceSelector: "},
		{"no namespace any more", []client.Object{selecting("b", nil, nil)}, held, nil, nil, ""},
		{"a budget", []client.Object{namespace, selecting("all", nil, &limit), selecting("b", nil, nil), &first}, held, []string{"all", "b"},
			[]Slot{{Policy: "all", Position: 1, Limit: "maxConcurrentRuns 1"}}, ""},
		{"a budget, not in the queue", []client.Object{namespace, selecting("all", nil, &limit), &first}, v1alpha1.PhaseHolding, []string{"all"},
			[]Slot{{Policy: "all", Limit: "maxConcurrentRuns 1"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := surroundings(t, c.objects...)
			canary := web.DeepCopy()
			canary.Status.Phase = c.phase
			s := &scene{canary: canary}
			require.NoError(t, (&observer{reader: api, cached: api}).policies(t.Context(), s))
			var names []string
			for _, policy := range s.Policies {
				names = append(names, policy.Name)
			}
			require.Equal(t, c.want, names)
			require.Equal(t, c.slots, s.Slots)
			require.Contains(t, s.PolicyFault, c.fault)
			require.Equal(t, c.fault == "", s.PolicyFault == "")
		})
	}
}

// A slot is seen as one's own only by who has it, for the run in which he is.
func TestWhoseSlotItIs(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	web := inQueue("shop", "web", now, 0)
	entry := func(namespace, name, run string) v1alpha1.RunningRun {
		return v1alpha1.RunningRun{Namespace: namespace, Canary: name, Run: run}
	}
	for _, c := range []struct {
		name    string
		running []v1alpha1.RunningRun
		all     []v1alpha1.Canary
		want    Slot
	}{
		{"free", nil, nil, Slot{}},
		{"held", []v1alpha1.RunningRun{entry("shop", "web", "web-1")}, nil, Slot{Mine: true, Held: true, Used: 1}},
		{"of a run before", []v1alpha1.RunningRun{entry("shop", "web", "web-0")}, nil, Slot{Mine: true, Used: 1}},
		{"of a run before, by who looks at all", []v1alpha1.RunningRun{entry("shop", "web", "web-0")}, []v1alpha1.Canary{web}, Slot{Mine: true, Used: 1}},
		{"of the same name elsewhere", []v1alpha1.RunningRun{entry("bank", "web", "web-1")}, nil, Slot{Used: 1, Position: 1}},
		{"of a neighbour", []v1alpha1.RunningRun{entry("shop", "cart", "web-1")}, nil, Slot{Used: 1, Position: 1}},
		{"suspended ones queue for nothing", nil, []v1alpha1.Canary{changed(inQueue("a", "cart", now.Add(-time.Hour), 0), func(c *v1alpha1.Canary) { c.Spec.Suspend = true })}, Slot{}},
		{"nor do those that go", nil, []v1alpha1.Canary{changed(inQueue("a", "cart", now.Add(-time.Hour), 0), func(c *v1alpha1.Canary) {
			c.DeletionTimestamp = &metav1.Time{Time: now}
		})}, Slot{}},
		{"nor those in another's queue", nil, []v1alpha1.Canary{changed(inQueue("a", "cart", now.Add(-time.Hour), 0), func(c *v1alpha1.Canary) { c.Status.Queue.Policy = "b" })}, Slot{}},
		{"nor those in none", nil, []v1alpha1.Canary{changed(inQueue("a", "cart", now.Add(-time.Hour), 0), func(c *v1alpha1.Canary) { c.Status.Queue = nil })}, Slot{}},
		{"nor those that have begun", nil, []v1alpha1.Canary{changed(inQueue("a", "cart", now.Add(-time.Hour), 0), func(c *v1alpha1.Canary) { c.Status.Phase = v1alpha1.PhaseScaling })}, Slot{}},
		{"who was first goes first", nil, []v1alpha1.Canary{inQueue("a", "cart", now.Add(-time.Hour), 0)}, Slot{Position: 1}},
		{"he himself is no other", nil, []v1alpha1.Canary{inQueue("shop", "web", now.Add(-time.Hour), 0)}, Slot{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := budget(1, 0)
			policy.Status.Running = c.running
			c.want.Policy, c.want.Limit = "all", "maxConcurrentRuns 1"
			require.Equal(t, c.want, slotOf(policy, c.all, &web))
		})
	}
	require.Equal(t, "maxConcurrentRunsPerNamespace 2", limitOf(budget(0, 2)))
	require.Equal(t, "maxConcurrentRuns 1, maxConcurrentRunsPerNamespace 2", limitOf(budget(1, 2)))
	require.True(t, budgeted(budget(0, 2)))
	require.False(t, budgeted(budget(0, 0)))
}

func changed(canary v1alpha1.Canary, change func(*v1alpha1.Canary)) v1alpha1.Canary {
	change(&canary)
	return canary
}

// Who gives a slot back gives back his own and nobody else's, be it that the policy is gone.
func TestSlotsAreGivenBack(t *testing.T) {
	policy := budget(5, 0)
	policy.Status.Running = []v1alpha1.RunningRun{
		{Namespace: "shop", Canary: "web", Run: "web-1"}, {Namespace: "shop", Canary: "cart", Run: "cart-1"}, {Namespace: "bank", Canary: "web", Run: "web-1"},
	}
	api := surroundings(t, policy)
	web := inQueue("shop", "web", time.Time{}, 0)
	h := &hands{client: api, reader: api, scene: &scene{canary: &web}}
	require.NoError(t, h.carryOut(t.Context(), []Effect{TakeSlot{Policy: "all", Run: "web-2"}, ReleaseSlot{Policy: "gone"}}))
	stored := &v1alpha1.RolloutPolicy{}
	require.NoError(t, api.Get(t.Context(), client.ObjectKeyFromObject(policy), stored))
	require.Equal(t, []v1alpha1.RunningRun{policy.Status.Running[1], policy.Status.Running[2], {Namespace: "shop", Canary: "web", Run: "web-2"}}, stored.Status.Running)
	require.NoError(t, h.carryOut(t.Context(), []Effect{ReleaseSlot{Policy: "all"}}))
	require.NoError(t, api.Get(t.Context(), client.ObjectKeyFromObject(policy), stored))
	require.Equal(t, policy.Status.Running[1:], stored.Status.Running)
	require.True(t, apierrors.IsNotFound(h.carryOut(t.Context(), []Effect{TakeSlot{Policy: "gone", Run: "web-2"}})), "nothing begins without a slot")
}

// Approvals are those of the current run, oldest first, and since when admission vouches for the names.
func TestApprovalsAreRead(t *testing.T) {
	at := func(minute int) metav1.Time {
		return metav1.NewTime(time.Date(2026, 11, 22, 0, minute, 0, 0, time.UTC))
	}
	given := func(name, canary, run string, made metav1.Time) *v1alpha1.Approval {
		approval := &v1alpha1.Approval{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: made}}
		approval.Spec.Canary, approval.Spec.Run = canary, run
		return approval
	}
	elsewhere := given("elsewhere", "web", "web-2", at(1))
	elsewhere.Namespace = "bank"
	stamp := func(made metav1.Time) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: stampName, CreationTimestamp: made}
	}
	going := stamp(at(5))
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: at(6).Time}, []string{"sluice.dev/test"}
	policy := func(m metav1.ObjectMeta) client.Object {
		return &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: m}
	}
	binding := func(m metav1.ObjectMeta) client.Object {
		return &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: m}
	}
	webhook := func(m metav1.ObjectMeta) client.Object {
		return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: m}
	}
	asks := []v1alpha1.Step{{Weight: 10}, {Weight: 100, Approval: &v1alpha1.StepApproval{Count: 1}}}
	for _, c := range []struct {
		name  string
		steps []v1alpha1.Step
		run   string
		phase v1alpha1.Phase
		rules []client.Object
		want  []string
		since metav1.Time
	}{
		{"a rule and its binding, the younger one counts", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{policy(stamp(at(3))), binding(stamp(at(4)))}, []string{"b", "a", "c"}, at(4)},
		{"the rule is the younger", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{policy(stamp(at(5))), binding(stamp(at(4)))}, []string{"b", "a", "c"}, at(5)},
		{"a rule without a binding", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{policy(stamp(at(3)))}, []string{"b", "a", "c"}, metav1.Time{}},
		{"a binding without a rule", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{binding(stamp(at(3))), webhook(stamp(at(7)))}, []string{"b", "a", "c"}, at(7)},
		{"a webhook", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{webhook(stamp(at(2)))}, []string{"b", "a", "c"}, at(2)},
		{"a rule that is being deleted", asks, "web-2", v1alpha1.PhaseHolding, []client.Object{policy(going), binding(stamp(at(3)))}, []string{"b", "a", "c"}, metav1.Time{}},
		{"no rule", asks, "web-2", v1alpha1.PhaseHolding, nil, []string{"b", "a", "c"}, metav1.Time{}},
		{"no approval", asks, "web-9", v1alpha1.PhaseHolding, []client.Object{webhook(stamp(at(2)))}, nil, metav1.Time{}},
		{"nobody is asked", []v1alpha1.Step{{Weight: 100}}, "web-2", v1alpha1.PhaseHolding, nil, nil, metav1.Time{}},
		{"no run", asks, "", v1alpha1.PhaseHolding, nil, nil, metav1.Time{}},
		{"the run is over", asks, "web-2", v1alpha1.PhaseStable, nil, nil, metav1.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := surroundings(t, append(c.rules, given("a", "web", "web-2", at(1)), given("b", "web", "web-2", at(0)), given("c", "web", "web-2", at(1)),
				given("d", "web", "web-1", at(0)), given("e", "cart", "web-2", at(0)), given("f", "web", "", at(0)), elsewhere)...)
			canary := dependsOn("web")
			canary.Spec.Steps, canary.Status.Run, canary.Status.Phase = c.steps, c.run, c.phase
			s := &scene{canary: canary}
			require.NoError(t, (&observer{reader: api, cached: api}).approvals(t.Context(), s))
			var names []string
			for _, approval := range s.Approvals {
				names = append(names, approval.Name)
			}
			require.Equal(t, c.want, names)
			require.True(t, c.since.Time.Equal(s.StampedSince), "%s", s.StampedSince)
		})
	}
}

// A webhook's request says whose it is, for how long and how often; the defaults are those of the CRD.
func TestCallOfAWebhook(t *testing.T) {
	once := int32(1)
	message := HookMessage{Namespace: "shop", Name: "web", Run: "web-1"}
	for _, c := range []struct {
		webhook v1alpha1.Webhook
		timeout time.Duration
		retries int32
	}{
		{v1alpha1.Webhook{URL: "https://h/x"}, 10 * time.Second, 2},
		{v1alpha1.Webhook{URL: "https://h/x", Timeout: metav1.Duration{Duration: time.Second}, Retries: &once}, time.Second, 1},
	} {
		call, err := message.call(&c.webhook, "key", "web-1")
		require.NoError(t, err)
		require.Equal(t, c.timeout, call.Timeout)
		require.Equal(t, c.retries, call.Retries)
		require.Equal(t, []string{"https://h/x", "key", "web-1", "shop", "web"},
			[]string{call.URL, call.Key, call.Run, call.Owner.Namespace, call.Owner.Name})
		require.Contains(t, string(call.Body), `"run":"web-1"`)
	}
}

// Weights are never more than pods carry, and nothing is never something.
func TestBoundsOfCapacity(t *testing.T) {
	require.Zero(t, needed(-1, 100, 3))
	require.Zero(t, needed(10, 0, 3))
	require.Zero(t, needed(10, 100, -1))
	require.Zero(t, carried(-1, 100, 3))
	require.Zero(t, carried(1, 100, 0))
	require.EqualValues(t, 100, totalOf(-1))
	require.EqualValues(t, 1, totalOf(1))
	require.Zero(t, percent(-1, 100))
	require.Equal(t, []string{"a", "b"}, sorted([]string{"b", "a"}))
}

// A returned-to template must have been stable within the window; a window of 0 allows none.
func TestWithinTheRollbackWindow(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		window *metav1.Duration
		ended  *metav1.Time
		want   bool
	}{
		{nil, nil, false},
		{nil, &metav1.Time{Time: now.Add(-24 * time.Hour)}, true},
		{nil, &metav1.Time{Time: now.Add(-24*time.Hour - time.Second)}, false},
		{&metav1.Duration{Duration: time.Minute}, &metav1.Time{Time: now.Add(-time.Minute)}, true},
		{&metav1.Duration{Duration: time.Minute}, &metav1.Time{Time: now.Add(-61 * time.Second)}, false},
		{&metav1.Duration{}, &metav1.Time{Time: now}, false},
		{&metav1.Duration{}, &metav1.Time{Time: now.Add(time.Second)}, false},
	} {
		canary := &v1alpha1.Canary{}
		canary.Spec.RollbackWindow = c.window
		require.Equal(t, c.want, newPlanner(canary, Observed{}, now).withinWindow(c.ended), "%v %v", c.window, c.ended)
	}
}

// Records beyond the limit or the age go, but never one of a run that is not over.
func TestEndedRunsAreKeptAsLongAsAsked(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	run := func(name string, age time.Duration) v1alpha1.CanaryRun {
		one := v1alpha1.CanaryRun{ObjectMeta: metav1.ObjectMeta{Name: name}}
		one.Record.Outcome, one.Record.EndedAt = v1alpha1.OutcomeCancelled, &metav1.Time{Time: now.Add(-age)}
		return one
	}
	open := run("app-2", time.Hour)
	open.Record.EndedAt, open.Record.Outcome = nil, ""
	runs := []v1alpha1.CanaryRun{run("app-5", 0), run("app-4", time.Hour), run("app-3", time.Hour+time.Second), open, run("app-1", 2*time.Hour)}
	for _, c := range []struct {
		name    string
		history *v1alpha1.History
		want    []string
	}{
		{"by default 20", nil, nil},
		{"two", &v1alpha1.History{Limit: 2}, []string{"app-3", "app-1"}},
		{"for an hour", &v1alpha1.History{MaxAge: metav1.Duration{Duration: time.Hour}}, []string{"app-3", "app-1"}},
	} {
		canary := &v1alpha1.Canary{}
		canary.Spec.History = c.history
		canary.Status.Run = "app-5"
		p := newPlanner(canary, Observed{Runs: runs, Target: &Target{}}, now)
		p.prune()
		var pruned []string
		for _, effect := range p.decision.Effects {
			pruned = append(pruned, effect.(DeleteRun).Name)
		}
		require.Equal(t, c.want, pruned, c.name)
	}
}
