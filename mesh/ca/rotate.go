// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"time"
)

// reloadInterval is how soon a changed Secret is taken over.
const reloadInterval = 30 * time.Second

// NeedLeaderElection is false: every replica signs.
func (i *Issuer) NeedLeaderElection() bool { return false }

// Start takes over what is put into the trust Secret, by a person or by cert-manager, until the
// context ends. A Secret that cannot be used is logged and what was in force stays.
func (i *Issuer) Start(ctx context.Context) error {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := i.reload(ctx); err != nil && ctx.Err() == nil {
			i.options.Logger.Error(err, "keep the authority in force")
		}
	}
}

func (i *Issuer) reload(ctx context.Context) error {
	loaded, err := i.load(ctx)
	if err != nil {
		return err
	}
	if loaded.equal(i.current.Load()) {
		return nil
	}
	i.current.Store(loaded)
	i.options.Logger.Info("authority replaced", "notAfter", loaded.certificate.NotAfter, "anchors", len(loaded.anchors))
	return nil
}

func (a *authority) equal(other *authority) bool {
	return a.certificate.Equal(other.certificate) && a.pool.Equal(other.pool)
}
