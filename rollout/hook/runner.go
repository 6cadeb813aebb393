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
	workers = 8
	// maxKept bounds how many requests are known at once; more are refused and come again.
	maxKept = 5000
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
var ErrFull = errors.New("too many webhook requests are waiting")

// Runner sends calls outside of reconciliations.
type Runner struct {
	sender *Sender
	clock  clock.WithTicker
	queue  workqueue.TypedDelayingInterface[string]

	lock  sync.Mutex
	calls map[string]*kept
}

type kept struct {
	Call
	told   bool
	answer Answer
}

// NewRunner makes a Runner; Start lets it work.
func NewRunner(sender *Sender, ticking clock.WithTicker) *Runner {
	return &Runner{
		sender: sender, clock: ticking, calls: map[string]*kept{},
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
	case known == nil && len(r.calls) >= maxKept:
		return ErrFull
	}
	r.calls[call.Key] = &kept{Call: call, told: told, answer: Answer{Pending: true, Attempt: attempt}}
	r.queue.Add(call.Key)
	return nil
}

// Refuse notes that a call could not be sent.
func (r *Runner) Refuse(call Call, why string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.calls[call.Key] = &kept{Call: call, answer: Answer{Err: why, Refused: true, At: r.clock.Now()}}
}

// Forget drops what was asked for the sake of an object that is gone.
func (r *Runner) Forget(owner types.NamespacedName) {
	if r == nil {
		return
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	for key, call := range r.calls {
		if call.Owner == owner && !call.told {
			delete(r.calls, key)
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
			delete(r.calls, key)
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
	r.lock.Lock()
	call := r.calls[key]
	r.lock.Unlock()
	if call == nil {
		return true
	}
	code, err := r.sender.Send(ctx, call.Request)
	if ctx.Err() != nil {
		return true // whoever comes next asks again
	}
	r.take(key, code, err)
	return true
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
	if call == nil {
		r.lock.Unlock()
		return
	}
	answer.Attempt = call.answer.Attempt
	again := call.told && !answer.Good() && !answer.Refused && answer.Attempt <= call.Retries
	switch {
	case again:
		call.answer.Attempt++
	case call.told:
		delete(r.calls, key)
	default:
		call.answer = answer
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
