// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ClientOptions says whose certificate a Client keeps and where it gets it.
type ClientOptions struct {
	// ID is the SPIFFE ID that the certificate is for.
	ID spiffeid.ID
	// ControlPlane is the host:port of the control plane.
	ControlPlane string
	// ControlPlaneID is the SPIFFE ID that the control plane must prove.
	ControlPlaneID spiffeid.ID
	// Anchors verify the control plane the first time; each answer brings the anchors to use next.
	Anchors []*x509.Certificate
	// TokenFile holds the service-account token. It is read anew for each request.
	TokenFile string
	// StateFile is where the certificate and its key are kept for the next start, which begins with them
	// while they are valid; nowhere when empty.
	StateFile string
	Logger    *slog.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Client keeps a workload's certificate and trust anchors fresh. It is the proxy's certificate
// source and bundle source: when the control plane is away, what it last gave stays in force.
type Client struct {
	options ClientOptions
	bundle  atomic.Pointer[x509.CertPool]
	held    atomic.Pointer[held]
	ready   chan struct{}
	once    sync.Once
}

// held is a certificate with the time at which it came, by which its age is known even when the
// wall clock is set.
type held struct {
	certificate *tls.Certificate
	received    time.Time
}

// NewClient returns a client that has no certificate until Run has got one, but for one that was kept.
func NewClient(options ClientOptions) (*Client, error) {
	switch {
	case options.ID.IsZero():
		return nil, errors.New("identity client: ID is not set")
	case options.ControlPlaneID.IsZero():
		return nil, errors.New("identity client: ControlPlaneID is not set")
	case options.ControlPlane == "":
		return nil, errors.New("identity client: ControlPlane is not set")
	case len(options.Anchors) == 0:
		return nil, fmt.Errorf("identity client: %w", ErrNoAnchors)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	client := &Client{options: options, ready: make(chan struct{})}
	client.bundle.Store(poolOf(options.Anchors))
	client.load()
	return client, nil
}

// Certificate returns the certificate in force, ErrNoCertificate before the first.
func (c *Client) Certificate() (*tls.Certificate, error) {
	if held := c.held.Load(); held != nil {
		return held.certificate, nil
	}
	return nil, ErrNoCertificate
}

// Bundle returns the trust anchors in force.
func (c *Client) Bundle() (*x509.CertPool, error) { return c.bundle.Load(), nil }

// Ready is closed once there is a certificate.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// NotAfter is when the certificate in force ends, zero when there is none.
func (c *Client) NotAfter() time.Time {
	if held := c.held.Load(); held != nil {
		return held.certificate.Leaf.NotAfter
	}
	return time.Time{}
}

// Run gets a certificate and renews it until the context ends. It returns nil then: while it runs
// it retries whatever goes wrong.
func (c *Client) Run(ctx context.Context) error {
	for {
		if err := c.obtain(ctx); err != nil {
			return nil //nolint:nilerr // Only the end of the context ends it.
		}
		if err := c.awaitRenewal(ctx, renewalFraction()); err != nil {
			return nil //nolint:nilerr // As above.
		}
	}
}

func (c *Client) hold(fresh *answer) {
	c.bundle.Store(poolOf(fresh.anchors))
	c.held.Store(&held{certificate: fresh.certificate, received: c.options.Now()})
	c.once.Do(func() { close(c.ready) })
}

// obtain asks until the control plane has given a certificate; the error is the context's.
func (c *Client) obtain(ctx context.Context) error {
	backoff := newBackoff()
	for {
		fresh, err := c.certify(ctx)
		if err == nil {
			c.hold(fresh)
			c.save(fresh)
			c.options.Logger.Info("certificate obtained",
				"identity", c.options.ID.String(), "notAfter", fresh.certificate.Leaf.NotAfter)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := backoff.next()
		c.options.Logger.Warn("cannot obtain a certificate; will try again",
			"identity", c.options.ID.String(), "after", wait, "error", err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// awaitRenewal returns nil when the certificate is due for renewal; the error is the context's.
func (c *Client) awaitRenewal(ctx context.Context, fraction float64) error {
	for {
		held := c.held.Load()
		wait := untilRenewal(held.certificate.Leaf, held.received, c.options.Now(), fraction)
		if wait <= 0 {
			return nil
		}
		// A timer does not see that the wall clock was set or that the machine slept.
		if err := pause(ctx, min(wait, time.Minute)); err != nil {
			return err
		}
	}
}

// untilRenewal returns how long a leaf may still be used before it is renewed: until the fraction
// of its life is over by the wall clock or by the time since it came, whichever is first. The
// second counts when the wall clock is behind that of the control plane. However short the life,
// there is at least a second between two renewals.
func untilRenewal(leaf *x509.Certificate, received, now time.Time, fraction float64) time.Duration {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	part := time.Duration(float64(life) * fraction)
	byWallClock := leaf.NotBefore.Add(part).Sub(now.Round(0))
	age := now.Sub(received)
	wait := min(byWallClock, part-age)
	if age >= 0 && age < time.Second {
		wait = max(wait, time.Second-age)
	}
	return wait
}

// renewalFraction is 70 % of the life, spread a little so that proxies that started together do not
// come back together.
func renewalFraction() float64 { return 0.65 + 0.1*rand.Float64() }

// backoff doubles from 100 ms to 15 s, less up to half of it by chance.
type backoff struct{ limit time.Duration }

func newBackoff() *backoff { return &backoff{limit: 100 * time.Millisecond} }

func (b *backoff) next() time.Duration {
	wait := b.limit/2 + rand.N(b.limit/2)
	b.limit = min(2*b.limit, 15*time.Second)
	return wait
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
