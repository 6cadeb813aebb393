// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTapsLeaveNothing: when the last listener has gone a request looks at one pointer again.
func TestTapsLeaveNothing(t *testing.T) {
	var all taps
	one, err := parseTap(url.Values{})
	require.NoError(t, err)
	other, err := parseTap(url.Values{"sample": {"0.5"}})
	require.NoError(t, err)
	require.NoError(t, all.add(one))
	require.NoError(t, all.add(other))
	one.dropped.Add(2)
	other.dropped.Add(1)
	require.EqualValues(t, 3, all.total())
	all.remove(one)
	require.EqualValues(t, 3, all.total())
	require.Len(t, *all.list.Load(), 1)
	all.remove(other)
	require.Nil(t, all.list.Load())
	require.EqualValues(t, 3, all.total())
	sampled := 0
	for range 1000 {
		if other.means(directionInbound, "", requestView{path: "/"}) {
			sampled++
		}
	}
	require.InDelta(t, 500, sampled, 150)
}

// TestTapsThatNobodyListensToCostNothing: no record is made of a request, nor of one that no listener asks for.
func TestTapsThatNobodyListensToCostNothing(t *testing.T) {
	p := New(Options{})
	conn := &servedConn{}
	request := requestView{method: "GET", path: "/"}
	look := func() {
		var r *record
		if list := p.taps.list.Load(); list != nil {
			r = p.tapRecord(r, conn, p.options.Now(), *list, request)
		}
		if r != nil {
			t.Fatal("a record was made")
		}
	}
	require.Zero(t, testing.AllocsPerRun(1000, look))
	elsewhere, err := parseTap(url.Values{"path": {"/elsewhere"}})
	require.NoError(t, err)
	require.NoError(t, p.taps.add(elsewhere))
	require.Zero(t, testing.AllocsPerRun(1000, look))
}
