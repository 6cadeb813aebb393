// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	state, err := parseStat("7 (odd) name) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n")
	require.NoError(t, err)
	require.Equal(t, processState{started: "4242"}, state)
	state, err = parseStat("7 (x) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n")
	require.NoError(t, err)
	require.True(t, state.zombie)
	_, err = parseStat("nonsense")
	require.Error(t, err)
}

func TestComponentsStartOnceAndAgainWhenChanged(t *testing.T) {
	l := layout{dir: t.TempDir()}
	config := filepath.Join(l.dir, "config")
	require.NoError(t, os.WriteFile(config, []byte("a"), 0o644))
	sleeper := component{name: "sleeper", arguments: []string{"sleep", "60"}, reads: []string{config}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, l.stop(ctx, "sleeper"))
		_, alive := l.running("sleeper")
		require.False(t, alive)
	})

	require.NoError(t, l.ensure(t.Context(), sleeper))
	first, alive := l.running("sleeper")
	require.True(t, alive)

	require.NoError(t, l.ensure(t.Context(), sleeper))
	again, _ := l.running("sleeper")
	require.Equal(t, first, again, "it was running")

	require.NoError(t, os.WriteFile(config, []byte("b"), 0o644))
	require.NoError(t, l.ensure(t.Context(), sleeper))
	changed, alive := l.running("sleeper")
	require.True(t, alive)
	require.NotEqual(t, first.pid, changed.pid)
}

func TestHaltedComponentsComeBackAsTheyWere(t *testing.T) {
	c := &Cluster{layout: layout{dir: t.TempDir()}}
	_, err := c.Halt(t.Context(), "sleeper")
	require.ErrorContains(t, err, "does not run")
	sleeper := component{name: "sleeper", arguments: []string{"sleep", "60"}}
	t.Cleanup(func() { require.NoError(t, c.layout.stop(context.Background(), "sleeper")) })
	require.NoError(t, c.layout.ensure(t.Context(), sleeper))
	before, _ := c.layout.running("sleeper")

	resume, err := c.Halt(t.Context(), "sleeper")
	require.NoError(t, err)
	_, alive := c.layout.running("sleeper")
	require.False(t, alive)

	require.NoError(t, resume(t.Context()))
	after, alive := c.layout.running("sleeper")
	require.True(t, alive)
	require.NotEqual(t, before.pid, after.pid)
	require.NoError(t, c.layout.ensure(t.Context(), sleeper))
	again, _ := c.layout.running("sleeper")
	require.Equal(t, after, again, "to the next Up it is the same")
}

func TestAwaitNamesTheComponentThatEnded(t *testing.T) {
	l := layout{dir: t.TempDir()}
	failing := component{name: "failing", arguments: []string{"sh", "-c", "echo no such luck; exit 3"}}
	if err := l.ensure(t.Context(), failing); err != nil {
		// It may be gone before it is looked at.
		require.ErrorContains(t, err, "failing")
	}
	err := l.await(t.Context(), func(context.Context) (bool, error) { return false, nil }, "failing")
	require.ErrorContains(t, err, "failing has ended")
	require.ErrorContains(t, err, "no such luck")
}

func TestAStrangersPidIsNotOurs(t *testing.T) {
	l := layout{dir: t.TempDir()}
	require.NoError(t, os.MkdirAll(l.path("pids"), 0o755))
	require.NoError(t, os.WriteFile(l.pidFile("etcd"), []byte("1 999999999999 digest\n"), 0o644))
	_, alive := l.running("etcd")
	require.False(t, alive)
}

func TestShims(t *testing.T) {
	l := layout{dir: "/state"}
	require.True(t, l.isShim([]byte("/usr/bin/containerd-shim-runc-v2\x00-namespace\x00k8s.io\x00-address\x00/state/node-1/containerd.sock\x00")))
	require.False(t, l.isShim([]byte("/usr/bin/containerd-shim-runc-v2\x00-address\x00/run/containerd/containerd.sock\x00")))
	require.False(t, l.isShim([]byte("vi\x00/state/node-1/containerd.sock\x00")))
}
