// SPDX-License-Identifier: Apache-2.0

//go:build harness

package model

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/harness"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

const (
	sequences    = 520
	perNamespace = 20
	rounds       = 4
	writers      = 16
	// patience is for machines that do other things too.
	patience = 8 * time.Minute
	// quietAfter looks without a change the cluster is quiet.
	quietAfter = 2
)

// live is one Deployment in the harness and the bench that follows it.
type live struct {
	client.Client
	namespace, name string
	uid             types.UID
	bench           bench
	// log is what was done, for people.
	log []string
	// seen and still are the last look, and for how many looks it has been the same.
	seen  string
	still int
}

// fleet is many Deployments at once: the controller works on all of them while a test waits.
type fleet struct {
	*testing.T
	client client.Client
	all    []*live
	lock   sync.Mutex
	broken map[string]bool
}

func newFleet(t *testing.T, count int, begin func(int) bench) *fleet {
	t.Helper()
	c, err := client.New(cluster.Config, client.Options{Scheme: clientgoscheme.Scheme})
	require.NoError(t, err)
	f := &fleet{T: t, client: c, broken: map[string]bool{}}
	t.Cleanup(cluster.Kubelet.Reset)
	namespace := ""
	for i := range count {
		if i%perNamespace == 0 {
			object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "model-"}}
			require.NoError(t, c.Create(t.Context(), object))
			namespace = object.Name
		}
		f.all = append(f.all, &live{Client: c, namespace: namespace, name: fmt.Sprintf("d%d", i), bench: begin(i)})
	}
	f.each(func(ctx context.Context, r *live, _ int) error { return r.create(ctx) })
	f.settle()
	return f
}

// each does something for every Deployment, some at a time.
func (f *fleet) each(do func(context.Context, *live, int) error) {
	f.Helper()
	group, ctx := errgroup.WithContext(f.Context())
	group.SetLimit(writers)
	for i, r := range f.all {
		group.Go(func() error { return do(ctx, r, i) })
	}
	require.NoError(f, group.Wait())
	cluster.Kubelet.SetReady(f.ready)
}

func (f *fleet) ready(pod *corev1.Pod) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	return !f.broken[string(pod.UID)]
}

// settle waits until every Deployment is quiet, and requires that it has come to a state that the
// model has too.
func (f *fleet) settle() {
	f.Helper()
	for _, r := range f.all {
		r.seen, r.still = "", 0
	}
	last := map[*live]*snapshot{}
	require.Eventually(f, func() bool {
		quiet := true
		for r, now := range f.look() {
			last[r] = now
			if r.seen != now.version {
				r.seen, r.still = now.version, 0
			} else {
				r.still++
			}
			quiet = quiet && now.caughtUp && (r.still >= quietAfter && r.agrees(now))
		}
		return quiet
	}, patience, 500*time.Millisecond, "%s", f.disagreement(last))
	for _, r := range f.all {
		require.True(f, r.follow(last[r]), "%s", r.explain(last[r]))
	}
}

// disagreement is told when the test fails; until then the map is filled.
func (f *fleet) disagreement(last map[*live]*snapshot) fmt.Stringer {
	return lazily(func() string {
		var texts []string
		for _, r := range f.all {
			if now := last[r]; now != nil && !r.agrees(now) {
				texts = append(texts, r.explain(now))
			}
		}
		return fmt.Sprintf("%d of %d differ:\n%s", len(texts), len(f.all), strings.Join(texts[:min(len(texts), 10)], "\n"))
	})
}

type lazily func() string

func (l lazily) String() string { return l() }

// snapshot is one Deployment as it is.
type snapshot struct {
	shape, version string
	caughtUp       bool
}

// look reads all Deployments and sets at once.
func (f *fleet) look() map[*live]*snapshot {
	f.Helper()
	deployments, sets := &appsv1.DeploymentList{}, &appsv1.ReplicaSetList{}
	require.NoError(f, f.client.List(f.Context(), deployments))
	require.NoError(f, f.client.List(f.Context(), sets))
	byOwner := map[types.UID][]*appsv1.ReplicaSet{}
	for i := range sets.Items {
		for _, owner := range sets.Items[i].OwnerReferences {
			byOwner[owner.UID] = append(byOwner[owner.UID], &sets.Items[i])
		}
	}
	byUID := map[types.UID]*appsv1.Deployment{}
	for i := range deployments.Items {
		byUID[deployments.Items[i].UID] = &deployments.Items[i]
	}
	seen := map[*live]*snapshot{}
	for _, r := range f.all {
		d := byUID[r.uid]
		require.NotNil(f, d, "Deployment %s/%s", r.namespace, r.name)
		seen[r] = snap(d, byOwner[r.uid])
	}
	return seen
}

func snap(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *snapshot {
	byCreation(sets)
	now := &snapshot{version: d.ResourceVersion, caughtUp: d.Status.ObservedGeneration == d.Generation}
	want := *d.Spec.Replicas
	complete := !d.Spec.Paused && d.Status.UpdatedReplicas == want && d.Status.Replicas == want && d.Status.AvailableReplicas == want
	parts := []string{fmt.Sprintf("%s x%d r%d", letter(&d.Spec.Template), want, number(d.Annotations, "deployment.kubernetes.io/revision")) +
		flags("paused", d.Spec.Paused, "complete", complete)}
	for _, rs := range sets {
		one := set{
			Exists: true, Owned: metav1.GetControllerOf(rs) != nil, Template: letter(&rs.Spec.Template),
			Replicas: uint8(*rs.Spec.Replicas), Pods: uint8(rs.Status.Replicas), Ready: uint8(rs.Status.AvailableReplicas),
			Revision: number(rs.Annotations, "deployment.kubernetes.io/revision"), Desired: unannotated,
		}
		if rs.Annotations["deployment.kubernetes.io/desired-replicas"] != "" {
			one.Desired = number(rs.Annotations, "deployment.kubernetes.io/desired-replicas")
		}
		parts = append(parts, setShape(one))
		now.version += " " + rs.ResourceVersion
		now.caughtUp = now.caughtUp && rs.Status.ObservedGeneration == rs.Generation
	}
	now.shape = strings.Join(parts, " | ")
	return now
}

func byCreation(sets []*appsv1.ReplicaSet) {
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

func letter(pods *corev1.PodTemplateSpec) template {
	_, text, _ := strings.Cut(pods.Spec.Containers[0].Image, ":")
	return template((text[0] - 'A') << 1)
}

func number(annotations map[string]string, key string) uint8 {
	n, err := strconv.Atoi(annotations[key])
	if err != nil {
		return 0
	}
	return uint8(n)
}

// agrees says whether the model can come to rest where the real one is.
func (r *live) agrees(now *snapshot) bool {
	rests, err := r.bench.quiet()
	return err == nil && slices.ContainsFunc(rests, func(b bench) bool { return b.shape() == now.shape })
}

func (r *live) follow(now *snapshot) bool {
	rests, err := r.bench.quiet()
	if err != nil {
		return false
	}
	at := slices.IndexFunc(rests, func(b bench) bool { return b.shape() == now.shape })
	if at >= 0 {
		r.bench = rests[at]
	}
	return at >= 0
}

func (r *live) explain(now *snapshot) string {
	text := fmt.Sprintf("%s/%s:\n  %s\n  real:  %s", r.namespace, r.name, strings.Join(r.log, "\n  "), now.shape)
	rests, err := r.bench.quiet()
	for i := range rests {
		text += "\n  model: " + rests[i].shape()
	}
	if err != nil {
		text += "\n  model: " + err.Error()
	}
	return text
}

func (r *live) create(ctx context.Context) error {
	replicas, history := int32(r.bench.Deployment.Replicas), int32(10)
	if r.bench.Deployment.NoHistory {
		history = 0
	}
	one, none := intstr.FromInt32(surge), intstr.FromInt32(0)
	labels := map[string]string{"app": r.name}
	grace := int64(0)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: r.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, RevisionHistoryLimit: &history, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "app", Image: "app:A"}}},
			},
		},
	}
	err := r.Create(ctx, d)
	r.uid = d.UID
	return err
}

// sets are those of the Deployment, as the slots of the bench.
func (r *live) sets(ctx context.Context) ([]*appsv1.ReplicaSet, error) {
	list := &appsv1.ReplicaSetList{}
	if err := r.List(ctx, list, client.InNamespace(r.namespace)); err != nil {
		return nil, err
	}
	var found []*appsv1.ReplicaSet
	for i := range list.Items {
		if slices.ContainsFunc(list.Items[i].OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == r.uid }) {
			found = append(found, &list.Items[i])
		}
	}
	byCreation(found)
	return found, nil
}

// do does a deed on both sides.
func (f *fleet) do(ctx context.Context, r *live, d deed) error {
	r.log = append(r.log, d.String())
	defer func() { r.bench.do(d) }()
	switch d.what {
	case doScale, doPush, doPause, doUnpause:
		return r.change(ctx, d)
	case doHeal:
		f.lock.Lock()
		defer f.lock.Unlock()
		return r.heal(ctx, f.broken)
	case doCreate:
		return r.createSet(ctx, d)
	}
	sets, err := r.sets(ctx)
	if err != nil {
		return err
	}
	if d.slot >= len(sets) {
		return fmt.Errorf("%s: %d sets", d, len(sets))
	}
	rs := sets[d.slot]
	switch d.what {
	case doDelete:
		return r.Delete(ctx, rs, client.PropagationPolicy(metav1.DeletePropagationBackground))
	case doBreak:
		return f.breakPod(ctx, r, rs)
	}
	before := rs.DeepCopy()
	r.alter(rs, d)
	return r.Patch(ctx, rs, client.MergeFrom(before))
}

func (r *live) change(ctx context.Context, d deed) error {
	object := &appsv1.Deployment{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: r.namespace, Name: r.name}, object); err != nil {
		return err
	}
	before := object.DeepCopy()
	switch d.what {
	case doScale:
		replicas := int32(d.n)
		object.Spec.Replicas = &replicas
	case doPush:
		object.Spec.Template.Spec.Containers[0].Image = "app:" + template(d.n<<1).String()
	case doPause, doUnpause:
		object.Spec.Paused = d.what == doPause
	}
	return r.Patch(ctx, object, client.MergeFrom(before))
}

func (r *live) owner(controller bool) []metav1.OwnerReference {
	reference := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: r.name, UID: r.uid}
	if controller {
		yes := true
		reference.Controller, reference.BlockOwnerDeletion = &yes, &yes
	}
	return []metav1.OwnerReference{reference}
}

func (r *live) alter(rs *appsv1.ReplicaSet, d deed) {
	switch d.what {
	case doRelease:
		rs.Labels, rs.OwnerReferences = map[string]string{"released": r.name}, r.owner(false)
	case doGiveBack, doHandOver:
		rs.Labels, rs.OwnerReferences = maps.Clone(rs.Spec.Template.Labels), r.owner(true)
	case doScaleSet:
		replicas := int32(d.n)
		rs.Spec.Replicas = &replicas
	}
	if d.what == doHandOver {
		if rs.Annotations == nil {
			rs.Annotations = map[string]string{}
		}
		want := int(r.bench.Deployment.Replicas)
		rs.Annotations["deployment.kubernetes.io/desired-replicas"] = strconv.Itoa(want)
		rs.Annotations["deployment.kubernetes.io/max-replicas"] = strconv.Itoa(want + surge)
		rs.Annotations["deployment.kubernetes.io/revision"] = strconv.Itoa(int(r.bench.nextRevision()))
	}
}

func (r *live) createSet(ctx context.Context, d deed) error {
	object := &appsv1.Deployment{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: r.namespace, Name: r.name}, object); err != nil {
		return err
	}
	hash := fmt.Sprintf("own%d", len(r.log))
	pods := object.Spec.Template.DeepCopy()
	pods.Labels["pod-template-hash"] = hash
	replicas := int32(d.n)
	return r.Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.namespace, Name: r.name + "-" + hash, Labels: map[string]string{"released": r.name}, OwnerReferences: r.owner(false),
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: pods.Labels}, Template: *pods},
	})
}

// breakPod keeps one ready pod of a set from being ready.
func (f *fleet) breakPod(ctx context.Context, r *live, rs *appsv1.ReplicaSet) error {
	pods, err := r.pods(ctx, rs.Spec.Selector.MatchLabels)
	if err != nil {
		return err
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	for i := range pods {
		if id := string(pods[i].UID); pods[i].DeletionTimestamp == nil && !f.broken[id] {
			f.broken[id] = true
			return nil
		}
	}
	return fmt.Errorf("%s/%s has no pod to break", r.namespace, rs.Name)
}

func (r *live) pods(ctx context.Context, labels map[string]string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	err := r.List(ctx, list, client.InNamespace(r.namespace), client.MatchingLabels(labels))
	return list.Items, err
}

func (r *live) heal(ctx context.Context, broken map[string]bool) error {
	pods, err := r.pods(ctx, map[string]string{"app": r.name})
	for i := range pods {
		delete(broken, string(pods[i].UID))
	}
	return err
}

// choose is the next deed of a random sequence: one that can be done.
func choose(random *rand.Rand, b *bench, log []string) deed {
	if len(log) > 0 && b.Broken != [maxSets]uint8{} && random.IntN(3) == 0 {
		return deed{what: doHeal}
	}
	var slots []int
	for i := range b.Sets {
		if b.Sets[i].Exists {
			slots = append(slots, i)
		}
	}
	free := maxSets - len(slots)
	for {
		d := deed{n: uint8(random.IntN(4))}
		switch d.what = [...]string{
			doScale, doScale, doPush, doPush, doPush, doPause, doUnpause, doUnpause, doRelease, doRelease,
			doGiveBack, doHandOver, doHandOver, doScaleSet, doScaleSet, doCreate, doDelete, doBreak, doBreak,
		}[random.IntN(19)]; d.what {
		case doScale:
			return d
		case doPush:
			if d.n = uint8(random.IntN(releases)); free > 0 {
				return d
			}
			continue
		case doPause, doUnpause:
			if b.Deployment.Paused == (d.what == doUnpause) {
				return d
			}
			continue
		case doCreate:
			if free > 1 {
				return d
			}
			continue
		}
		if len(slots) == 0 {
			continue
		}
		d.slot = slots[random.IntN(len(slots))]
		one := b.Sets[d.slot]
		switch d.what {
		case doRelease:
			if one.Owned {
				return d
			}
		case doGiveBack, doHandOver, doScaleSet:
			if !one.Owned {
				return d
			}
		case doDelete:
			return d
		case doBreak:
			if one.Ready > 0 && one.Pods == one.Replicas {
				return d
			}
		}
	}
}

// Random sequences of what people, autoscalers, Sluice and failing pods do: at each quiescence the
// real Deployment controller is where the model can be. Twice it is away while two things happen.
func TestRealControllerAgrees(t *testing.T) {
	f := newFleet(t, sequences, func(i int) bench { return newBench(uint8(i%3), i%5 == 0) })
	for round := range rounds {
		away := round == 1 || round == 3
		if away {
			cluster.StopControllerManager()
		}
		f.each(func(ctx context.Context, r *live, i int) error {
			random := rand.New(rand.NewPCG(uint64(i), uint64(round)))
			if err := f.do(ctx, r, choose(random, &r.bench, r.log)); err != nil || !away {
				return err
			}
			r.log = append(r.log, "(the controller is away)")
			second := deed{what: doScale, n: uint8(random.IntN(4))}
			if random.IntN(2) == 0 {
				second = deed{what: doUnpause}
			}
			return f.do(ctx, r, second)
		})
		if away {
			require.NoError(t, cluster.StartControllerManager())
		}
		f.settle()
	}
	deeds := 0
	for _, r := range f.all {
		deeds += len(r.log)
	}
	t.Logf("%d sequences, %d deeds: the model and the real controller agree at each quiescence", len(f.all), deeds)
}

// The runs of the design's review, on the real controller.
func TestRealNamedRuns(t *testing.T) {
	runs := namedRuns()
	f := newFleet(t, len(runs), func(i int) bench { return newBench(runs[i].replicas, runs[i].bare) })
	longest := 0
	for _, run := range runs {
		longest = max(longest, len(run.deeds))
	}
	for step := range longest {
		f.each(func(ctx context.Context, r *live, i int) error {
			if step >= len(runs[i].deeds) {
				return nil
			}
			return f.do(ctx, r, runs[i].deeds[step])
		})
		f.settle()
	}
	for i, r := range f.all {
		var shapes []string
		for _, one := range r.bench.Sets {
			if one.Exists {
				shapes = append(shapes, setShape(one))
			}
		}
		require.Equal(t, runs[i].want, shapes, "%s: %s", runs[i].name, strings.Join(r.log, ", "))
	}
}

// The Deployment controller itself can stand still: an active set of the right size whose annotation
// names another number is a scaling event for ever, and no rollout begins. The model found it.
func TestRealControllerStandsStill(t *testing.T) {
	f := newFleet(t, 1, func(int) bench { return newBench(3, false) })
	all := func(deeds ...deed) {
		for _, d := range deeds {
			f.each(func(ctx context.Context, r *live, _ int) error { return f.do(ctx, r, d) })
		}
	}
	for _, d := range []deed{{what: doPause}, {what: doPush, n: 1}, {what: doCreate, n: 3}, {what: doBreak, slot: 1}, {what: doHandOver, slot: 1}} {
		all(d)
		f.settle()
	}
	kept := f.all[0].bench.Sets[0].Replicas
	require.Less(t, kept, uint8(3), "stable has lost pods to the other set")
	cluster.StopControllerManager()
	all(deed{what: doUnpause}, deed{what: doDelete, slot: 1}, deed{what: doScale, n: kept})
	require.NoError(t, cluster.StartControllerManager())
	f.settle()
	require.True(t, f.all[0].bench.stuck())
	require.Negative(t, f.all[0].bench.find(byController|2), "the template that is asked for never runs")
}
