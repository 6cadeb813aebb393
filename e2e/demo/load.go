// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
	"github.com/sluice-mesh/sluice/e2e/stage"
)

// settled is how much load there is before the first release, and after each.
const settled = 5 * time.Second

// clients send half of the load each.
func clients() []incluster.Pod {
	target := "http://" + appName + "." + namespace
	return []incluster.Pod{
		{Namespace: "demo-load", Name: "meshed", Meshed: true, Target: target, Rate: 100},
		{Namespace: "demo-load", Name: "unmeshed", Target: target, Rate: 100},
	}
}

// clear removes what an earlier demo left, so that each begins with v1 and no history.
func (d *demo) clear(ctx context.Context, s *stage.Stage) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := flux.Uninstall(ctx, s.Client); err != nil {
		return fmt.Errorf("clear the stage: %w", err)
	}
	var left []client.Object
	for _, name := range []string{namespace, "demo-load", "sluice-demo-sync"} {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		err := s.Client.Delete(ctx, object)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return fmt.Errorf("clear the stage: %w", err)
		}
		d.screen.say("removing namespace %s of an earlier demo", name)
		left = append(left, object)
	}
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	for _, object := range left {
		for {
			err := s.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
			if apierrors.IsNotFound(err) {
				break
			}
			if err != nil {
				return fmt.Errorf("clear the stage: %w", err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("clear the stage: wait for the end of namespace %s: %w", object.GetName(), context.Cause(ctx))
			case <-ticker.C:
			}
		}
	}
	return nil
}

// startLoad starts the clients and returns when both have been answered.
func (d *demo) startLoad(ctx context.Context, s *stage.Stage) error {
	d.meter = &meter{kube: s.Kube, clients: clients()}
	var pods []*unstructured.Unstructured
	for _, pod := range d.meter.clients {
		content, err := pod.YAML()
		if err != nil {
			return err
		}
		objects, err := s.Applier.Apply(ctx, content)
		if err != nil {
			return fmt.Errorf("start the load: %w", err)
		}
		pods = append(pods, objects...)
	}
	if err := s.Applier.Wait(ctx, pods, time.Minute); err != nil {
		return fmt.Errorf("start the load: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := d.meter.read(ctx, time.Now())
		if err == nil && d.meter.total().OK > 100 {
			d.screen.say("load: 200 requests/s, half of it through the mesh and half of it not")
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the load: %w", errors.Join(context.Cause(ctx), err))
		case <-ticker.C:
		}
	}
}

// showing sets the versions in the table.
func (d *demo) showing(from, to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from, d.to = from, to
}

// startTable draws until the returned function is called or ctx ends.
func (d *demo) startTable(ctx context.Context) (stop func()) {
	d.showing("v1", "")
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			// Counters that cannot be read now are read the next time.
			_ = d.meter.read(ctx, time.Now())
			d.mu.Lock()
			from, to := d.from, d.to
			d.mu.Unlock()
			if ctx.Err() == nil {
				d.screen.show(newRow(d.timeline.State(), d.meter, from, to, time.Since(began)), time.Now())
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// linger lets the load run for a while: a failure that comes late counts too.
func (d *demo) linger(ctx context.Context) error {
	timer := time.NewTimer(settled)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("watch the load: %w", context.Cause(ctx))
	}
}
