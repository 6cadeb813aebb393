// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// promoteAndReject is a release of each kind, with what must be seen of it whatever goes wrong beside.
func (b *bed) promoteAndReject() {
	b.Helper()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	require.Equal(b, []int32{0, 50, 100}, b.mesh.seen(), "no weight is skipped or repeated")
	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v3")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	b.eventually("only v2 runs", func() bool { return len(b.pods()) == 1 && len(b.pods()["app:v2"]) == 2 })
	require.Equal(b, []int32{0, 50, 100, 0, 50, 0}, b.mesh.seen())
	for _, name := range []string{"app-1", "app-2"} {
		entries := b.run(name).Record.Entries
		for i := 1; i < len(entries); i++ {
			require.NotEqual(b, entries[i-1].Message, entries[i].Message, "nothing is recorded twice in "+name)
		}
	}
}

// Of three writes one is refused for a conflict, one is carried out and its answer lost, and one works.
func TestConflictsAndLostAnswers(t *testing.T) {
	b := newBed(t)
	var count, lost atomic.Int64
	b.intercept = func(inner client.WithWatch) client.Client {
		return writing(inner, func(write func() error) error {
			switch count.Add(1) % 3 {
			case 0:
				return apierrors.NewConflict(schema.GroupResource{Resource: "anything"}, "app", errors.New("injected"))
			case 1:
				lost.Add(1)
				return errors.Join(write(), apierrors.NewTimeoutError("injected: the answer was lost", 0))
			}
			return write()
		})
	}
	b.start()
	b.promoteAndReject()
	require.Greater(t, lost.Load(), int64(10))
}

// When the lease changes hands, for a moment two controllers may believe that they lead: here they do so
// all the time.
func TestTwoLeaders(t *testing.T) {
	b := newBed(t)
	b.start()
	b.start()
	b.promoteAndReject()
}

// What the controller knows from watches is late: each object is shown three times as it was.
func TestSlowWatches(t *testing.T) {
	b := newBed(t)
	late := &late{answers: map[string]answer{}}
	b.intercept = late.client
	b.start()
	b.promoteAndReject()
	require.Greater(t, late.outdated, 20)
}

// late answers reads from the caches with what they said up to three reads ago.
type late struct {
	lock     sync.Mutex
	answers  map[string]answer
	outdated int
}

type answer struct {
	content []byte
	err     error
	shown   int
}

func (l *late) client(inner client.WithWatch) client.Client {
	return interceptor.NewClient(inner, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
			switch into.(type) {
			case *v1alpha1.Canary, *v1alpha1.TrafficSplit, *metav1.PartialObjectMetadata:
				return l.read(fmt.Sprintf("%T %s %s", into, into.GetObjectKind().GroupVersionKind(), key), into, func() error { return c.Get(ctx, key, into, opts...) })
			}
			return c.Get(ctx, key, into, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, into client.ObjectList, opts ...client.ListOption) error {
			if _, versions := into.(*metav1.PartialObjectMetadataList); versions {
				return l.read(fmt.Sprintf("%s %v", into.GetObjectKind().GroupVersionKind(), opts), into, func() error { return c.List(ctx, into, opts...) })
			}
			return c.List(ctx, into, opts...)
		},
	})
}

func (l *late) read(name string, into any, read func() error) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	known, asked := l.answers[name]
	if !asked || known.shown == 3 {
		err := read()
		content, _ := json.Marshal(into)
		l.answers[name] = answer{content: content, err: err}
		return err
	}
	known.shown++
	l.answers[name] = known
	l.outdated++
	if known.err != nil {
		return known.err
	}
	return json.Unmarshal(known.content, into)
}

// A look at a run at which nothing has happened asks the API server nothing.
func TestQuietLooksReadNothing(t *testing.T) {
	b := newBed(t)
	var reads atomic.Int64
	b.wrap = func(inner http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			if request.Method == http.MethodGet && !request.URL.Query().Has("watch") {
				reads.Add(1)
			}
			return inner.RoundTrip(request)
		})
	}
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	looks, quietSince, before := 0, 0, reads.Load()
	b.eventually("many looks one after another read nothing", func() bool {
		b.gate.set(func(g *gate) { looks = g.asked })
		if now := reads.Load(); now != before {
			quietSince, before = looks, now
		}
		return looks-quietSince >= 20
	})
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
