// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

const (
	workers = 32
	// perNamespace bounds how many requests of a namespace are on their way: one tenant's slow
	// receivers hold up nobody else's.
	perNamespace = 8
	// crowded is how long a request waits when that many are.
	crowded = time.Second
	// maxWaiting bounds how many requests of a namespace are to be sent; more are refused and come
	// again.
	maxWaiting = 1000
)

// Call is a request and whose it is.
type Call struct {
	Request
	// Owner is the object for whose sake it is sent.
	Owner types.NamespacedName
	// Run that it is about: answers of other runs are forgotten.
	Run string
	// Retries of a call that is told and not asked.
	Retries int32
	// Done is called when a call that was told is delivered or given up; it must not block.
	Done func(error)
}

// Answer is what became of a call.
type Answer struct {
	// Pending: it is not known yet.
	Pending bool
	// Attempt counts from 1.
	Attempt int32
	// Code of the response; 0 when there was none, and Err says why.
	Code int
	Err  string
	// Refused: nothing was sent, and nothing will be until somebody mends it.
	Refused bool
	// At is when it became known.
	At time.Time
}

// Good says that the response was a success.
func (a Answer) Good() bool { return a.Code >= 200 && a.Code <= 299 }

// ErrFull is returned when too many requests are waiting.
var ErrFull = errors.New("too many webhook requests of this namespace are waiting")

// Runner sends calls outside of reconciliations.
type Runner struct {
	sender *Sender
	clock  clock.WithTicker
	queue  workqueue.TypedDelayingInterface[string]

	lock  sync.Mutex
	calls map[string]*kept
	// waiting counts the calls that are pending, sending those that are on their way, by namespace.
	waiting, sending map[string]int
}

type kept struct {
	Call
	told   bool
	answer Answer
}

// NewRunner makes a Runner; Start lets it work.
func NewRunner(sender *Sender, ticking clock.WithTicker) *Runner {
	return &Runner{
		sender: sender, clock: ticking, calls: map[string]*kept{}, waiting: map[string]int{}, sending: map[string]int{},
		queue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{Clock: ticking}),
	}
}

// Start works until the context ends.
func (r *Runner) Start(ctx context.Context) error {
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for r.next(ctx) {
			}
			return nil
		})
	}
	<-ctx.Done()
	r.queue.ShutDown()
	return group.Wait()
}

// Ask sends a call once more, unless it is on its way. Its answer is found in Answers.
func (r *Runner) Ask(call Call, attempt int32) error { return r.put(call, attempt, false) }

// Tell sends a call until it succeeds or its retries are used up. Nobody waits for it.
func (r *Runner) Tell(call Call) error { return r.put(call, 1, true) }

func (r *Runner) put(call Call, attempt int32, told bool) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	known := r.calls[call.Key]
	switch {
	case known != nil && (known.answer.Pending || told):
		return nil
	case r.waiting[call.Owner.Namespace] >= maxWaiting:
		return ErrFull
	}
	r.keep(call.Key, &kept{Call: call, told: told, answer: Answer{Pending: true, Attempt: attempt}})
	r.queue.Add(call.Key)
	return nil
}

// keep puts a call in the place of what was known under its key; nil takes it away.
func (r *Runner) keep(key string, call *kept) {
	if before := r.calls[key]; before != nil && before.answer.Pending {
		count(r.waiting, before.Owner.Namespace, -1)
	}
	if call == nil {
		delete(r.calls, key)
		return
	}
	r.calls[key] = call
	if call.answer.Pending {
		count(r.waiting, call.Owner.Namespace, 1)
	}
}

// count forgets namespaces in which nothing is left.
func count(counts map[string]int, namespace string, change int) {
	if counts[namespace] += change; counts[namespace] == 0 {
		delete(counts, namespace)
	}
}

// Refuse notes that a call could not be sent.
func (r *Runner) Refuse(call Call, why string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.keep(call.Key, &kept{Call: call, answer: Answer{Err: why, Refused: true, At: r.clock.Now()}})
}

// Forget drops what was asked for the sake of an object that is gone or has come to rest.
func (r *Runner) Forget(owner types.NamespacedName) {
	if r == nil {
		return
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	for key, call := range r.calls {
		if call.Owner == owner && !call.told {
			r.keep(key, nil)
		}
	}
}

// Answers of an object's current run, by key; what was asked in earlier runs is forgotten.
func (r *Runner) Answers(owner types.NamespacedName, run string) map[string]Answer {
	if r == nil {
		return nil
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	var found map[string]Answer
	for key, call := range r.calls {
		switch {
		case call.Owner != owner || call.told:
		case call.Run != run && !call.answer.Pending:
			r.keep(key, nil)
		case call.Run == run:
			if found == nil {
				found = map[string]Answer{}
			}
			found[key] = call.answer
		}
	}
	return found
}

func (r *Runner) next(ctx context.Context) bool {
	key, stop := r.queue.Get()
	if stop {
		return false
	}
	defer r.queue.Done(key)
	call := r.begin(key)
	if call == nil {
		return true
	}
	code, err := r.sender.Send(ctx, call.Request)
	r.end(call)
	if ctx.Err() != nil {
		return true // whoever comes next asks again
	}
	r.take(key, code, err)
	return true
}

// begin takes a call that may be sent now; nil when there is none.
func (r *Runner) begin(key string) *kept {
	r.lock.Lock()
	defer r.lock.Unlock()
	call := r.calls[key]
	if call == nil || !call.answer.Pending {
		return nil
	}
	if r.sending[call.Owner.Namespace] >= perNamespace {
		r.queue.AddAfter(key, crowded)
		return nil
	}
	count(r.sending, call.Owner.Namespace, 1)
	return call
}

func (r *Runner) end(call *kept) {
	r.lock.Lock()
	defer r.lock.Unlock()
	count(r.sending, call.Owner.Namespace, -1)
}

// take keeps an answer, or sends again what is to be told and was not taken.
func (r *Runner) take(key string, code int, err error) {
	answer := Answer{Code: code, At: r.clock.Now()}
	if err != nil {
		answer.Err = err.Error()
		refused := (*RefusedError)(nil)
		answer.Refused = errors.As(err, &refused)
	}
	r.lock.Lock()
	call := r.calls[key]
	if call == nil || !call.answer.Pending {
		r.lock.Unlock()
		return // forgotten meanwhile
	}
	answer.Attempt = call.answer.Attempt
	again := call.told && !answer.Good() && !answer.Refused && answer.Attempt <= call.Retries
	switch {
	case again:
		call.answer.Attempt++
	case call.told:
		r.keep(key, nil)
	default:
		r.keep(key, &kept{Call: call.Call, answer: answer})
	}
	r.lock.Unlock()
	switch {
	case again:
		r.queue.AddAfter(key, Backoff(answer.Attempt))
	case call.told && call.Done != nil:
		call.Done(answer.failure())
	}
}

func (a Answer) failure() error {
	switch {
	case a.Good():
		return nil
	case a.Err != "":
		return errors.New(a.Err)
	}
	return fmt.Errorf("the answer was %d", a.Code)
}

// Backoff is the pause after an attempt: 1s, doubled each time, at most 1 minute.
func Backoff(attempt int32) time.Duration {
	return min(time.Minute, time.Second<<min(max(attempt-1, 0), 6))
}
