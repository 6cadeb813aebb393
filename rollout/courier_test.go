// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

// chat is a server that messages are sent to.
type chat struct {
	sync.Mutex
	code     int
	messages []notify.Message
	keys     []string
}

func (c *chat) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	c.Lock()
	defer c.Unlock()
	var message notify.Message
	_ = json.NewDecoder(request.Body).Decode(&message)
	c.messages, c.keys = append(c.messages, message), append(c.keys, request.Header.Get(hook.HeaderIdempotency))
	w.WriteHeader(c.code)
}

func (c *chat) answers(code int) {
	c.Lock()
	defer c.Unlock()
	c.code = code
}

func (c *chat) reasons() (reasons []string) {
	c.Lock()
	defer c.Unlock()
	for _, message := range c.messages {
		reasons = append(reasons, message.Reason)
	}
	return reasons
}

// office is a namespace with a Canary, a Notifier and a chat, and a courier between them.
type office struct {
	*testing.T
	client  client.Client
	chat    *chat
	courier *courier
	stop    func()
	name    types.NamespacedName
	metrics *Metrics
	counted *prometheus.Registry
}

func newOffice(t *testing.T, ticking clock.WithTicker) *office {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	require.NoError(t, corev1.AddToScheme(scheme))
	o := &office{T: t, chat: &chat{code: http.StatusOK}, name: types.NamespacedName{Namespace: "shop", Name: "app"}}
	server := httptest.NewServer(o.chat)
	t.Cleanup(server.Close)
	o.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Notifier{}, &v1alpha1.Canary{}).WithObjects(
		&v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app", UID: "canary"}},
		&v1alpha1.Notifier{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "chat", UID: "chat", Generation: 1},
			Spec:       v1alpha1.NotifierSpec{Type: v1alpha1.NotifierGeneric, Address: server.URL, Severity: v1alpha1.SeverityInfo},
		},
	).Build()
	o.counted = prometheus.NewRegistry()
	metrics, err := NewMetrics(o.counted)
	require.NoError(t, err)
	o.metrics = metrics
	o.hire(ticking)
	return o
}

// hire starts a courier that knows nothing of the one before.
func (o *office) hire(ticking clock.WithTicker) {
	if o.stop != nil {
		o.stop()
	}
	rules := hook.Rules{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	runner := hook.NewRunner(&hook.Sender{Rules: rules, Now: time.Now}, ticking)
	ctx, cancel := context.WithCancel(o.Context())
	var ended sync.WaitGroup
	ended.Go(func() { _ = runner.Start(ctx) })
	o.stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	o.Cleanup(o.stop)
	o.courier = newCourier(o.client, o.client, runner, ticking, o.metrics)
}

// happens is a transition: its messages are written with the status.
func (o *office) happens(phase v1alpha1.Phase, told ...Event) {
	o.Helper()
	canary := o.canary()
	status := *canary.Status.DeepCopy()
	status.Phase = phase
	missed, err := o.courier.post(o.Context(), canary, &status, told)
	require.NoError(o, err)
	require.NoError(o, writeStatus(o.Context(), o.client, canary, Decision{Status: status}, time.Now()))
	o.courier.posted(o.Context(), canary, told, missed)
}

func (o *office) canary() *v1alpha1.Canary {
	o.Helper()
	canary := &v1alpha1.Canary{}
	require.NoError(o, o.client.Get(o.Context(), o.name, canary))
	return canary
}

// works reconciles, as often as it is woken, until nothing is left to be told.
func (o *office) works() {
	o.Helper()
	require.Eventually(o, func() bool {
		_, err := o.courier.Reconcile(o.Context(), ctrl.Request{NamespacedName: o.name})
		require.NoError(o, err)
		return len(o.canary().Status.Messages) == 0
	}, time.Minute, 5*time.Millisecond)
}

// messages are the counts of the Notifier's messages by what became of them.
func (o *office) messages() map[string]float64 {
	o.Helper()
	found := map[string]float64{}
	for series, value := range values(o.T, o.counted) {
		if text, ours := strings.CutPrefix(series, `sluice_notifier_messages_total{name="chat",namespace="shop",result="`); ours {
			found[strings.TrimSuffix(text, `"}`)] = value
		}
	}
	return found
}

func (o *office) ready() metav1.Condition {
	o.Helper()
	name := types.NamespacedName{Namespace: "shop", Name: "chat"}
	_, err := (&notifierReconciler{o.courier}).Reconcile(o.Context(), ctrl.Request{NamespacedName: name})
	require.NoError(o, err)
	notifier := &v1alpha1.Notifier{}
	require.NoError(o, o.client.Get(o.Context(), name, notifier))
	for _, condition := range notifier.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition
		}
	}
	o.Fatal("the Notifier has no condition Ready")
	return metav1.Condition{}
}

func info(reason string) Event { return Event{Reason: reason, Message: reason + " in words"} }

func TestMessagesAreToldInOrder(t *testing.T) {
	o := newOffice(t, clock.RealClock{})
	o.happens(v1alpha1.PhaseHeld, info(v1alpha1.ReasonRunStarted))
	o.happens(v1alpha1.PhaseScaling, info(v1alpha1.ReasonScaling))
	o.happens(v1alpha1.PhaseRollingBack, Event{Warning: true, Reason: v1alpha1.ReasonRolledBack, Message: "9 of 10 requests failed"}, info(v1alpha1.ReasonRecorded))
	o.works()
	require.Equal(t, []string{v1alpha1.ReasonRunStarted, v1alpha1.ReasonScaling, v1alpha1.ReasonRolledBack, v1alpha1.ReasonRecorded}, o.chat.reasons())
	told := o.chat.messages[2]
	require.Equal(t, "shop/app RollingBack error 9 of 10 requests failed", fmt.Sprintf("%s/%s %s %s %s", told.Namespace, told.Canary, told.Phase, told.Severity, told.Text))
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(o.chat.keys))), 4, "each has a key of its own")
	require.Equal(t, metav1.ConditionTrue, o.ready().Status)
	require.Equal(t, map[string]float64{"sent": 4}, o.messages())
	require.NoError(t, o.client.Delete(t.Context(), &v1alpha1.Notifier{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "chat"}}))
	_, err := (&notifierReconciler{o.courier}).Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "chat"}})
	require.NoError(t, err)
	require.Empty(t, o.messages(), "nothing is left of a Notifier that is gone")
}

// Whatever was written into the status is told by the next controller, under the same key.
func TestMessagesOutliveTheController(t *testing.T) {
	o := newOffice(t, clock.RealClock{})
	o.happens(v1alpha1.PhaseHeld, info(v1alpha1.ReasonRunStarted))
	o.hire(clock.RealClock{}) // dead before it sent anything
	_, err := o.courier.Reconcile(t.Context(), ctrl.Request{NamespacedName: o.name})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(o.chat.reasons()) == 1 }, time.Minute, time.Millisecond)
	o.hire(clock.RealClock{}) // dead before it noted that it had
	o.works()
	require.Equal(t, []string{v1alpha1.ReasonRunStarted, v1alpha1.ReasonRunStarted}, o.chat.reasons())
	require.Equal(t, o.chat.keys[0], o.chat.keys[1], "who keeps keys sees that he was told before")
}

// A chat that fails is given up after its retries; the next message is tried anew, and the conditions
// tell, also from a controller that has told nothing yet.
func TestAFailingChatIsGivenUp(t *testing.T) {
	ticking := clocktesting.NewFakeClock(time.Now())
	o := newOffice(t, ticking)
	o.chat.answers(http.StatusInternalServerError)
	o.happens(v1alpha1.PhaseHeld, info(v1alpha1.ReasonRunStarted))
	require.Eventually(t, func() bool {
		ticking.Step(time.Minute)
		_, err := o.courier.Reconcile(t.Context(), ctrl.Request{NamespacedName: o.name})
		require.NoError(t, err)
		return len(o.canary().Status.Messages) == 0
	}, time.Minute, 5*time.Millisecond)
	require.Len(t, o.chat.reasons(), notifyRetries+1)
	ready := o.ready()
	require.Equal(t, v1alpha1.ReasonDeliveryFailed, ready.Reason)
	require.Contains(t, ready.Message, "the answer was 500")
	o.hire(ticking)
	require.Equal(t, v1alpha1.ReasonDeliveryFailed, o.ready().Reason)
	o.chat.answers(http.StatusOK)
	o.happens(v1alpha1.PhaseScaling, info(v1alpha1.ReasonScaling))
	o.works()
	require.Equal(t, v1alpha1.ReasonDelivering, o.ready().Reason)
	require.Equal(t, map[string]float64{"failed": 1, "sent": 1}, o.messages())
}

func TestANotifierSaysWhyItCannotBeTold(t *testing.T) {
	o := newOffice(t, clock.RealClock{})
	edit := func(change func(*v1alpha1.Notifier)) {
		notifier := &v1alpha1.Notifier{}
		require.NoError(t, o.client.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "chat"}, notifier))
		change(notifier)
		notifier.Generation++
		require.NoError(t, o.client.Update(t.Context(), notifier))
	}
	edit(func(n *v1alpha1.Notifier) { n.Spec.Events = []string{"Promoted", "Exploded"} })
	require.Equal(t, `spec.events[1]: "Exploded" is the reason of no event; docs/conditions.md lists them`, o.ready().Message)
	edit(func(n *v1alpha1.Notifier) {
		n.Spec.Events, n.Spec.Address, n.Spec.AddressSecretRef = nil, "", &v1alpha1.SecretReference{Name: "chat"}
	})
	require.Equal(t, "there is no Secret chat in namespace shop", o.ready().Message)
	o.happens(v1alpha1.PhaseHeld, info(v1alpha1.ReasonRunStarted))
	o.works() // it is not waited for
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "chat"}}
	require.NoError(t, o.client.Create(t.Context(), secret))
	require.Equal(t, "Secret chat has no key address", o.ready().Message)
	secret.Data = map[string][]byte{v1alpha1.SecretKeyAddress: []byte("https://169.254.169.254/")}
	require.NoError(t, o.client.Update(t.Context(), secret))
	o.happens(v1alpha1.PhaseScaling, info(v1alpha1.ReasonScaling))
	o.works()
	require.Contains(t, o.ready().Message, "169.254.169.254 is link-local")
	require.Empty(t, o.chat.reasons())
	require.Equal(t, map[string]float64{"failed": 2}, o.messages())
}

// What begins to stand again and again in one phase is told once, a transition always; and of what
// nobody takes the newest is kept.
func TestMessagesAreBounded(t *testing.T) {
	o := newOffice(t, clock.RealClock{})
	away := Event{Warning: true, Reason: v1alpha1.ReasonMetricsUnavailable, Message: "connection refused"}
	for range 3 {
		o.happens(v1alpha1.PhaseHolding, away)
	}
	require.Len(t, o.canary().Status.Messages, 1)
	for i := range maxMessages + 5 {
		o.happens(v1alpha1.PhaseScaling, Event{Reason: v1alpha1.ReasonScaling, Message: fmt.Sprint(i)})
	}
	messages := o.canary().Status.Messages
	require.Len(t, messages, maxMessages)
	require.Equal(t, fmt.Sprint(maxMessages+4), messages[maxMessages-1].Text)
	require.Equal(t, map[string]float64{"dropped": 6}, o.messages())
}

func TestMessagesThatNobodyWantsAreNotWritten(t *testing.T) {
	o := newOffice(t, clock.RealClock{})
	notifier := &v1alpha1.Notifier{}
	require.NoError(t, o.client.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "chat"}, notifier))
	notifier.Spec.Severity = v1alpha1.SeverityError
	require.NoError(t, o.client.Update(t.Context(), notifier))
	o.happens(v1alpha1.PhaseHeld, info(v1alpha1.ReasonRunStarted))
	require.Empty(t, o.canary().Status.Messages)
}

// A Notifier may name each reason that the documentation calls one of an event, each of a transition and
// each standing that people are told of.
func TestReasonsOfEventsAreKnown(t *testing.T) {
	page, err := os.ReadFile("../docs/conditions.md")
	require.NoError(t, err)
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| event \\|").FindAllStringSubmatch(string(page), -1) {
		require.Contains(t, toldReasons(), row[1])
	}
	for _, reason := range toldReasons() {
		require.Contains(t, string(page), "| `"+reason+"` |")
	}
}
