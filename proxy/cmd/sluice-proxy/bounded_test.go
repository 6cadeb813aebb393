// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLinesOfAMessageAreBounded(t *testing.T) {
	var out bytes.Buffer
	handler := newBounded(slog.NewTextHandler(&out, nil)).WithAttrs([]slog.Attr{slog.String("pod", "p")})
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	say := func(message string, after time.Duration) {
		require.NoError(t, handler.Handle(t.Context(), slog.NewRecord(at.Add(after), slog.LevelInfo, message, 0)))
	}
	for i := range 1000 {
		say("refused", time.Duration(i)*time.Millisecond)
	}
	say("started", 0)
	require.Equal(t, linesPerSecond, strings.Count(out.String(), "msg=refused"))
	require.Equal(t, 1, strings.Count(out.String(), "msg=started"), "other messages have their own bound")
	require.NotContains(t, out.String(), "keptBack")

	out.Reset()
	say("refused", time.Second)
	say("refused", time.Second+time.Millisecond)
	require.Equal(t, 1, strings.Count(out.String(), "keptBack=980"), "said once")
	require.Equal(t, 2, strings.Count(out.String(), "msg=refused"))
}
