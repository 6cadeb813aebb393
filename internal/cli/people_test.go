// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

// noon is when these tests are run.
func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func before(minutes int) metav1.Time {
	return metav1.NewTime(noon().Add(-time.Duration(minutes) * time.Minute))
}

func recordKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
}

// ask runs a command against a cluster that holds some objects.
func people(t *testing.T, objects []client.Object, arguments ...string) (code int, out, complaint string, cluster client.Client) {
	t.Helper()
	scheme, err := newScheme()
	require.NoError(t, err)
	cluster = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	root := newRoot(func(*kubeconfig) (*session, error) {
		return &session{client: cluster, namespace: "shop", now: noon}, nil
	})
	var stdout, stderr bytes.Buffer
	code = execute(context.Background(), root, Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, arguments)
	return code, stdout.String(), stderr.String(), cluster
}

// shop is a namespace with one Canary in the middle of its third run and one that is held at a
// rejected template.
func shop(t *testing.T) []client.Object {
	t.Helper()
	checkout := canaryAt("checkout", v1alpha1.PhaseHolding, "checkout-3")
	checkout.Status.Weight, checkout.Status.Step = 25, 1
	checkout.Status.Stable = &v1alpha1.RevisionStatus{ReplicaSet: "checkout-7d4f", PodTemplateHash: "7d4f", Replicas: 4, ReadyReplicas: 4}
	checkout.Status.Canary = &v1alpha1.RevisionStatus{ReplicaSet: "checkout-9c1b", PodTemplateHash: "9c1b", Replicas: 1, ReadyReplicas: 1}
	checkout.Status.Verdict = &v1alpha1.VerdictStatus{Verdict: "wait", Reason: "120 of 400 requests", Time: before(1)}
	checkout.Status.Conditions = standing("Unknown", v1alpha1.ReasonProgressing, "weight 25 for at least 42s more; wait: 120 of 400 requests", v1alpha1.ConditionReconciling)
	till := canaryAt("till", v1alpha1.PhaseRejected, "till-1")
	till.Status.Conditions = standing("False", v1alpha1.ReasonRolledBack, "run till-1 rolled back: 50 of 100 requests failed", v1alpha1.ConditionStalled)
	objects := []client.Object{
		checkout, till, workload("checkout", "main@sha1:cccccccccc"), workload("till", "main@sha1:dddddddddd"),
		&v1alpha1.TrafficSplit{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "checkout"},
			Status:     v1alpha1.TrafficSplitStatus{Proxies: v1alpha1.ProxyCounts{Carrying: 5, Acknowledged: 4, Laggards: []string{"shop/web-1"}}},
		},
		publishedKeys(t),
	}
	first := runOf(t, "checkout-1", "main@sha1:aaaaaaaaaa", 300, v1alpha1.OutcomePromoted, nil)
	second := runOf(t, "checkout-2", "main@sha1:bbbbbbbbbb", 200, v1alpha1.OutcomeRolledBack, first)
	third := runOf(t, "checkout-3", "main@sha1:cccccccccc", 20, "", second)
	rejected := runOf(t, "till-1", "main@sha1:dddddddddd", 50, v1alpha1.OutcomeRolledBack, nil)
	head := second.Record.Head
	return append(objects, first, second, third, rejected, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "checkout.1"}, Reason: v1alpha1.ReasonRecorded,
		Note: "run checkout-2 ended RolledBack; the head of its record is 3:" + head.Hash + ", signed by key " + head.KeyID,
	})
}

func canaryAt(name string, phase v1alpha1.Phase, run string) *v1alpha1.Canary {
	canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 1, CreationTimestamp: before(3000)}}
	canary.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}
	for _, weight := range []int32{5, 25, 50, 100} {
		canary.Spec.Steps = append(canary.Spec.Steps, v1alpha1.Step{Weight: weight})
	}
	canary.Status.Phase, canary.Status.Run, canary.Status.ObservedGeneration, canary.Status.ObservedWorkloadGeneration = phase, run, 1, 7
	return canary
}

func standing(ready metav1.ConditionStatus, reason, message string, also ...string) []metav1.Condition {
	conditions := []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: ready, Reason: reason, Message: message}}
	for _, kind := range also {
		conditions = append(conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message})
	}
	return conditions
}

func workload(name, revision string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, Generation: 7, Annotations: map[string]string{v1alpha1.AnnotationSourceRevision: revision},
	}}
}

func publishedKeys(t *testing.T) *corev1.ConfigMap {
	t.Helper()
	public := recordKey().Public().(ed25519.PublicKey)
	encoded, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: rollout.SealConfigMap},
		Data:       map[string]string{chain.KeyID(public): string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}))},
	}
}

// runOf is a run with a sealed record.
func runOf(t *testing.T, name, revision string, ago int, outcome v1alpha1.Outcome, previous *v1alpha1.CanaryRun) *v1alpha1.CanaryRun { //nolint:revive // what differs between the runs of one story
	t.Helper()
	canary, _, _ := strings.Cut(name, "-")
	template := []byte(`{"spec":{}}`)
	run := &v1alpha1.CanaryRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: before(ago), Labels: map[string]string{v1alpha1.LabelCanary: canary}},
		Spec: v1alpha1.CanaryRunSpec{
			Canary: canary, Kind: v1alpha1.RunCanary, TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: canary},
			Stable:    v1alpha1.RunRevision{ReplicaSet: canary + "-7d4f", Images: map[string]string{"app": "app:v1"}},
			Candidate: v1alpha1.RunRevision{ReplicaSet: canary + "-9c1b", Images: map[string]string{"app": "app:" + name}},
			Source:    &v1alpha1.RunSource{Tool: v1alpha1.SourceFlux, Revision: revision, Author: "ada"},
		},
	}
	run.Spec.Stable.Template.Raw, run.Spec.Candidate.Template.Raw = template, template
	if previous != nil {
		run.Spec.Previous = &v1alpha1.RunLink{Run: previous.Name, Number: previous.Record.Head.Number, Hash: previous.Record.Head.Hash}
	}
	entries := []v1alpha1.RunEntry{
		{Phase: v1alpha1.PhaseHeld, Message: "a new template is held (app: app:v1 -> app:" + name + ")"},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "wait: 3 of 400 requests", Measurement: &v1alpha1.RunMeasurement{Verdict: "wait", Reason: "3 of 400 requests"}},
	}
	switch outcome {
	case v1alpha1.OutcomePromoted:
		entries = append(entries, v1alpha1.RunEntry{Phase: v1alpha1.PhasePromoting, Weight: 100, Message: "promoted: the analysed pods are the Deployment's", Outcome: outcome})
	case v1alpha1.OutcomeRolledBack, v1alpha1.OutcomeCancelled:
		entries = append(entries, v1alpha1.RunEntry{Phase: v1alpha1.PhaseRollingBack, Message: "50 of 100 requests | failed", Outcome: outcome})
	}
	for i, entry := range entries {
		entry.Time = before(ago - i)
		require.NoError(t, chain.Append(run, entry))
	}
	if outcome != "" {
		ended := before(ago - 10)
		run.Record.Outcome, run.Record.EndedAt = outcome, &ended
	}
	require.NoError(t, chain.Sign(run, recordKey()))
	return run
}

func TestPeopleRead(t *testing.T) {
	for name, arguments := range map[string][]string{
		"get":               {"get"},
		"get-wide":          {"get", "-A", "-o", "wide"},
		"get-json":          {"get", "canary/till", "-o", "json"},
		"get-yaml":          {"get", "checkout", "till", "-o", "yaml"},
		"get-none":          {"get", "-n", "empty"},
		"status":            {"status", "checkout"},
		"status-yaml":       {"status", "till", "-o", "yaml"},
		"history":           {"history", "checkout"},
		"history-run":       {"history", "checkout", "checkout-2"},
		"history-markdown":  {"history", "checkout", "-o", "markdown"},
		"history-json":      {"history", "checkout", "checkout-3", "-o", "json"},
		"history-yaml":      {"history", "till", "-o", "yaml"},
		"history-none":      {"history", "nobody"},
		"history-verify":    {"history", "canary/checkout", "--verify"},
		"completion-names":  {"__complete", "status", ""},
		"completion-second": {"__complete", "get", "till", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint, _ := people(t, shop(t), arguments...)
			require.Equal(t, exitOK, code, complaint)
			require.NotContains(t, out, "\x1b", "colours only on a terminal")
			requireGolden(t, filepath.Join("testdata", "people", name+".out"), out)
		})
	}
}

func TestPeopleAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"unknown format":     {[]string{"get", "-o", "xml"}, "--output xml: write json, yaml, wide"},
		"no such Canary":     {[]string{"status", "nobody"}, `read Canary shop/nobody: canaries.sluice.dev "nobody" not found`},
		"another kind":       {[]string{"status", "deployment/checkout"}, "deployment/checkout: write the name of a Canary, or canary/name"},
		"no such run":        {[]string{"history", "checkout", "checkout-9"}, "find run checkout-9: Canary shop/checkout has none of that name"},
		"verify as JSON":     {[]string{"history", "checkout", "--verify", "-o", "json"}, "--verify prints a table"},
		"odd head":           {[]string{"history", "checkout", "--verify", "--head", "checkout-1=3"}, "write RUN=NUMBER:HASH"},
		"no keys":            {[]string{"history", "checkout", "--verify", "--system-namespace", "other"}, "read the public keys in ConfigMap other/sluice-record-keys (or give them with --public-keys)"},
		"no run to promote":  {[]string{"promote", "till"}, `promote Canary shop/till: no run is under way: its phase is "Rejected"`},
		"nothing to retry":   {[]string{"retry", "checkout"}, `retry Canary shop/checkout: no template is rejected: its phase is "Holding"`},
		"short revision":     {[]string{"wait", "checkout", "--revision", "abc"}, "--revision abc: write at least 7 characters"},
		"wait for nobody":    {[]string{"wait", "nobody"}, "read Canary shop/nobody"},
		"too many arguments": {[]string{"status", "a", "b"}, "accepts 1 arg(s), received 2"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint, _ := people(t, shop(t), c.arguments...)
			require.Equal(t, exitError, code)
			require.Empty(t, out)
			require.Contains(t, complaint, c.want)
		})
	}
}

// What is asked names the run that is spoken of: asked too late it is void.
func TestPeopleAsk(t *testing.T) {
	for _, c := range []struct{ command, canary, annotation, value, said string }{
		{"promote", "checkout", "sluice.dev/promote", "checkout-3", "Canary shop/checkout is asked to promote (checkout-3)\n"},
		{"abort", "canary/checkout", "sluice.dev/abort", "checkout-3", "Canary shop/checkout is asked to abort (checkout-3)\n"},
		{"pause", "checkout", "sluice.dev/pause", "checkout-3", "Canary shop/checkout is asked to pause (checkout-3)\n"},
		{"resume", "checkout", "sluice.dev/pause", "", "Canary shop/checkout is asked to go on\n"},
		{"retry", "till", "sluice.dev/retry", "till-1", "Canary shop/till is asked to try again (till-1)\n"},
		{"restart", "till", "sluice.dev/restart", "2026-11-22T12:00:00Z", "Canary shop/till is asked to restart its pods (2026-11-22T12:00:00Z)\n"},
	} {
		t.Run(c.command, func(t *testing.T) {
			objects := shop(t)
			if c.command == "resume" {
				objects[0].SetAnnotations(map[string]string{"sluice.dev/pause": "checkout-3", "other": "kept"})
			}
			code, out, complaint, cluster := people(t, objects, c.command, c.canary)
			require.Equal(t, exitOK, code, complaint)
			require.Equal(t, c.said, out)
			canary := &v1alpha1.Canary{}
			name, err := canaryName(c.canary)
			require.NoError(t, err)
			require.NoError(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, canary))
			value, found := canary.Annotations[c.annotation]
			require.Equal(t, c.value, value)
			require.Equal(t, c.value != "", found)
			require.Equal(t, c.command == "resume", canary.Annotations["other"] == "kept")
		})
	}
}

func TestWaitExitCodes(t *testing.T) {
	applied := func(revision string) func([]client.Object) {
		return func(objects []client.Object) { objects[2] = workload("checkout", revision) }
	}
	stable := func(objects []client.Object) {
		checkout := objects[0].(*v1alpha1.Canary)
		checkout.Status.Phase = v1alpha1.PhaseStable
		checkout.Status.Conditions = standing("True", v1alpha1.ReasonStable, "revision 7d4f is stable")
	}
	for name, c := range map[string]struct {
		canary, revision string
		change           []func([]client.Object)
		code             int
		said             string
	}{
		"promoted":              {"checkout", "aaaaaaaaaa", nil, exitOK, "run checkout-1 promoted main@sha1:aaaaaaaaaa"},
		"as the tool calls it":  {"checkout", "main@sha1:aaaaaaaaaa", nil, exitOK, "promoted"},
		"first digits":          {"canary/checkout", "AAAAAAA", nil, exitOK, "promoted"},
		"rejected":              {"checkout", "bbbbbbbbbb", nil, exitRejected, "rejected main@sha1:bbbbbbbbbb: 50 of 100"},
		"being tried":           {"checkout", "cccccccccc", nil, exitTimeout, "Holding: weight 25"},
		"never seen":            {"checkout", "eeeeeeeeee", nil, exitTimeout, "no run tries revision eeeeeeeeee; the workload is at main@sha1:cccccccccc"},
		"nothing to release":    {"checkout", "eeeeeeeeee", []func([]client.Object){stable, applied("main@sha1:eeeeeeeeee")}, exitOK, "changes nothing that is released"},
		"not yet looked at":     {"checkout", "eeeeeeeeee", []func([]client.Object){stable, applied("main@sha1:eeeeeeeeee"), func(objects []client.Object) { objects[2].SetGeneration(8) }}, exitTimeout, "no run tries"},
		"rejected before":       {"till", "eeeeeeeeee", []func([]client.Object){func(objects []client.Object) { objects[3] = workload("till", "main@sha1:eeeeeeeeee") }}, exitRejected, "rolled back"},
		"no revision, moving":   {"checkout", "", nil, exitTimeout, "Holding"},
		"no revision, rests":    {"checkout", "", []func([]client.Object){stable}, exitOK, "Stable: revision 7d4f is stable"},
		"no revision, rejected": {"till", "", nil, exitRejected, "Rejected: run till-1 rolled back"},
		"held": {"checkout", "cccccccccc", []func([]client.Object){func(objects []client.Object) {
			objects[0].(*v1alpha1.Canary).Status.Phase = v1alpha1.PhaseHeld
		}}, exitHeld, "Held: "},
		"awaits people": {"checkout", "cccccccccc", []func([]client.Object){func(objects []client.Object) {
			objects[0].(*v1alpha1.Canary).Status.Phase = v1alpha1.PhaseAwaitingApproval
		}}, exitHeld, "AwaitingApproval: "},
		"suspended": {"checkout", "cccccccccc", []func([]client.Object){func(objects []client.Object) {
			objects[0].(*v1alpha1.Canary).Status.Conditions = standing("Unknown", v1alpha1.ReasonSuspended, "spec.suspend is true")
		}}, exitHeld, "spec.suspend is true"},
		"superseded": {"checkout", "cccccccccc", []func([]client.Object){func(objects []client.Object) {
			*objects[8].(*v1alpha1.CanaryRun) = *runOf(t, "checkout-3", "main@sha1:cccccccccc", 20, v1alpha1.OutcomeCancelled, nil)
		}}, exitSuperseded, "run checkout-3 was cancelled"},
		"left for a newer one": {"checkout", "bbbbbbbbbb", []func([]client.Object){func(objects []client.Object) {
			objects[7].(*v1alpha1.CanaryRun).Record.Outcome = ""
		}}, exitSuperseded, "run checkout-2 was left for a newer one"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := shop(t)
			for _, change := range c.change {
				change(objects)
			}
			code, out, complaint, _ := people(t, objects, "wait", c.canary, "--revision", c.revision, "--timeout", "10ms")
			require.Equal(t, c.code, code, complaint)
			require.Contains(t, out+complaint, c.said)
		})
	}
}

// A record that is not what was written ends verification with an error, and the table says where.
func TestVerifyFinds(t *testing.T) {
	head := func(t *testing.T, run string) string {
		for _, object := range shop(t) {
			if found, ok := object.(*v1alpha1.CanaryRun); ok && found.Name == run {
				return found.Record.Head.Hash
			}
		}
		return ""
	}
	for name, c := range map[string]struct {
		change    func(first, second *v1alpha1.CanaryRun)
		arguments []string
		want      string
	}{
		"a changed message": {func(first, _ *v1alpha1.CanaryRun) { first.Record.Entries[1].Message = "all was well" }, nil, "entry 2 is not what was written"},
		"a whole record forged, which lacks what the next knew": {func(first, _ *v1alpha1.CanaryRun) {
			*first = *runOf(t, "checkout-1", "main@sha1:aaaaaaaaaa", 301, v1alpha1.OutcomePromoted, nil)
		}, nil, "checkout-1 has not the entry 3 that it had"},
		"a whole record forged, which lacks the head of an event": {func(_, second *v1alpha1.CanaryRun) {
			*second = *runOf(t, "checkout-2", "main@sha1:bbbbbbbbbb", 201, v1alpha1.OutcomePromoted, nil)
		}, nil, "lacks the head 3 of event checkout.1"},
		"a head that somebody kept": {func(first, _ *v1alpha1.CanaryRun) {
			*first = *runOf(t, "checkout-1", "main@sha1:aaaaaaaaaa", 301, v1alpha1.OutcomePromoted, nil)
		}, []string{"--head", "checkout-1=3:" + head(t, "checkout-1")}, "lacks the head 3 of --head"},
		"no signature": {func(first, _ *v1alpha1.CanaryRun) { first.Record.Head.Signature = "" }, nil, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := shop(t)
			c.change(objects[6].(*v1alpha1.CanaryRun), objects[7].(*v1alpha1.CanaryRun))
			code, out, complaint, _ := people(t, objects, append([]string{"history", "checkout", "--verify"}, c.arguments...)...)
			require.Equal(t, exitError, code)
			require.Contains(t, out, c.want)
			require.Contains(t, complaint, "a record is not what was written")
		})
	}
	file := filepath.Join(t.TempDir(), "keys.pem")
	var all string
	for _, text := range publishedKeys(t).Data {
		all += text
	}
	require.NoError(t, os.WriteFile(file, []byte(all), 0o600))
	code, _, complaint, _ := people(t, shop(t), "history", "checkout", "--verify", "--public-keys", file)
	require.Equal(t, exitOK, code, complaint)
}

// status -w prints a line for each change and ends quietly when it is interrupted.
func TestStatusFollows(t *testing.T) {
	scheme, err := newScheme()
	require.NoError(t, err)
	objects := shop(t)
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	opened := &session{client: cluster, namespace: "shop", now: noon}
	ctx, cancel := context.WithCancel(t.Context())
	out := &promoting{cancel: cancel, cluster: cluster, t: t}
	require.NoError(t, follow(ctx, out, opened, "checkout"))
	require.Equal(t, "12:00:00 Holding weight 25: weight 25 for at least 42s more; wait: 120 of 400 requests\n12:00:00 Stable weight 0: promoted\n", out.String())
}

// promoting moves the Canary on when the first line is printed, and interrupts at the second.
type promoting struct {
	bytes.Buffer
	t       *testing.T
	cluster client.Client
	cancel  context.CancelFunc
	lines   int
}

func (p *promoting) Write(line []byte) (int, error) {
	p.lines++
	if p.lines == 2 {
		p.cancel()
	}
	canary := &v1alpha1.Canary{}
	require.NoError(p.t, p.cluster.Get(context.Background(), client.ObjectKey{Namespace: "shop", Name: "checkout"}, canary))
	canary.Status.Phase, canary.Status.Weight = v1alpha1.PhaseStable, 0
	canary.Status.Conditions = standing("True", v1alpha1.ReasonStable, "promoted")
	require.NoError(p.t, p.cluster.Update(context.Background(), canary))
	return p.Buffer.Write(line)
}

func TestColours(t *testing.T) {
	require.Equal(t, "\x1b[31mRejected\x1b[0m", coloured(true, v1alpha1.PhaseRejected))
	require.Equal(t, "\x1b[32mStable\x1b[0m", coloured(true, v1alpha1.PhaseStable))
	require.Equal(t, "Holding", coloured(false, v1alpha1.PhaseHolding))
	require.False(t, terminal(&bytes.Buffer{}))
}

func TestJSONReadsBack(t *testing.T) {
	_, out, _, _ := people(t, shop(t), "history", "checkout", "checkout-2", "-o", "json")
	run := &v1alpha1.CanaryRun{}
	require.NoError(t, json.Unmarshal([]byte(out), run))
	require.NoError(t, chain.Verify(run), "what is printed can be verified elsewhere")
}
