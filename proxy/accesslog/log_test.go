// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func inJSON() mesh.AccessLog { return mesh.AccessLog{Format: mesh.AccessLogJSON} }

// collected is a writer whose content is looked at when nothing is written any more.
type collected struct {
	bytes.Buffer
	writes int
}

func (c *collected) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

func TestLinesAreWrittenWholeAndGathered(t *testing.T) {
	var out collected
	log := New(&out, inJSON())
	stop := log.Start()
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			for range 50 { // All of them fit, however late they are written.
				log.Add(request())
			}
		})
	}
	adding.Wait()
	stop()
	line := string(appendLine(nil, request(), inJSON()))
	require.Equal(t, strings.Repeat(line, 400), out.String())
	require.Less(t, out.writes, 100)
	require.Zero(t, log.Dropped())
}

// stuck is a reader that reads nothing until it is released.
type stuck struct {
	entered, release chan struct{}
	once             sync.Once
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.release
	return len(p), nil
}

func TestNobodyWaitsForWhoeverDoesNotRead(t *testing.T) {
	out := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
	log := New(out, inJSON())
	stop := log.Start()
	log.Add(request())
	<-out.entered
	line := len(appendLine(nil, request(), inJSON()))
	fits := pendingMost / line
	for range fits + 17 { // Would hang here if it waited.
		log.Add(request())
	}
	require.EqualValues(t, 17, log.Dropped())
	stop() // Waits no longer than for lastTime.
	close(out.release)
}

// TestStoppedLogEnds: after the test before nothing is left running, which TestMain sees, and what is
// added to a log that has ended is harmless.
func TestStoppedLogEnds(t *testing.T) {
	var out collected
	log := New(&out, inJSON())
	log.Start()()
	log.Add(request())
	require.Empty(t, out.String())
}

type broken struct{}

func (broken) Write(p []byte) (int, error) {
	return bytes.IndexByte(p, '\n') + 1, errors.New("broken pipe")
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	log := New(broken{}, inJSON())
	for range 5 {
		log.Add(request())
	}
	log.Start()()
	require.EqualValues(t, 4, log.Dropped())
}

func TestAddingLeavesNoGarbage(t *testing.T) {
	log := New(&collected{}, inJSON())
	e := request()
	log.Add(e)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		log.Add(e)
		log.pending = log.pending[:0]
	}))
}

func BenchmarkAdd(b *testing.B) {
	for _, format := range []mesh.AccessLogFormat{mesh.AccessLogJSON, mesh.AccessLogApache} {
		b.Run(string(format), func(b *testing.B) {
			log := New(&collected{}, mesh.AccessLog{Format: format})
			e := request()
			b.ReportAllocs()
			for b.Loop() {
				log.Add(e)
				log.pending = log.pending[:0]
			}
		})
	}
}
