// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/mesh/statefile"
)

// savePause is the least time between two saves: endpoints may change many times a second.
const savePause = time.Second

// saver keeps the configuration in force in a file, for a proxy that starts while the control plane is
// away.
type saver struct {
	path   string
	config *Config
	log    *slog.Logger
	// changed has one element when the configuration has changed since it was last saved.
	changed chan struct{}
}

func newSaver(path string, log *slog.Logger) *saver {
	return &saver{path: path, log: log, changed: make(chan struct{}, 1)}
}

// note notes that the configuration has changed.
func (s *saver) note() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run saves until the context ends.
func (s *saver) run(ctx context.Context) {
	var last []byte
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return
		}
		last = s.save(last)
		pause.Reset(savePause)
	}
}

// save writes the configuration unless it is what was written last, and returns what is.
func (s *saver) save(last []byte) []byte {
	content, err := encodeSnapshot(s.config.Snapshot())
	if err == nil && bytes.Equal(content, last) {
		return last
	}
	if err == nil {
		err = statefile.Write(s.path, content)
	}
	if err != nil {
		s.log.Warn("cannot keep the configuration for the next start", "error", err)
		return last
	}
	return content
}

// load puts the configuration in force that was last saved, if there is one.
func (s *saver) load() {
	saved, err := loadSnapshot(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.log.Warn("cannot use the configuration of the last run", "error", err)
	default:
		s.config.restore(saved)
		s.log.Info("serving with the configuration of the last run until the control plane answers",
			"destinations", len(saved.GetDestinations()))
	}
}

func loadSnapshot(path string) (*meshpb.WatchResponse, error) {
	content, err := statefile.Read(path)
	if err != nil {
		return nil, err
	}
	saved := &meshpb.WatchResponse{}
	if err := proto.Unmarshal(content, saved); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	if saved.GetInbound() == nil {
		return nil, fmt.Errorf("parse %s: %w", path, statefile.ErrDamaged)
	}
	return saved, nil
}

// encodeSnapshot writes what the control plane has said. Where it knew nothing of an address there is
// nothing to keep.
func encodeSnapshot(snapshot *mesh.Snapshot) ([]byte, error) {
	saved := &meshpb.WatchResponse{Inbound: meshpb.FromInbound(&snapshot.Inbound)}
	for _, address := range slices.Sorted(maps.Keys(snapshot.Destinations)) {
		if known := snapshot.Destinations[address]; !known.Unknown {
			saved.Destinations = append(saved.Destinations, meshpb.FromDestination(known))
		}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(saved)
}
