// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplayBody(t *testing.T) {
	small, large := strings.Repeat("s", 10_000), strings.Repeat("l", replayLimit+1)
	for name, test := range map[string]struct {
		body string
		// first is how much the first attempt reads.
		first      int
		replayable bool
	}{
		"not read":            {small, 0, true},
		"partly read":         {small, 100, true},
		"wholly read":         {small, len(small), true},
		"large, partly read":  {large, 1000, true},
		"large, wholly read":  {large, len(large), false},
		"the most that fits":  {large[:replayLimit], replayLimit, true},
		"one more than fits":  {large, replayLimit + 1, false},
		"nothing but its end": {"", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			body := newReplayBody(strings.NewReader(test.body))
			first, err := body.attempt()
			require.NoError(t, err)
			got := make([]byte, test.first)
			_, err = io.ReadFull(first, got)
			require.NoError(t, err)
			require.Equal(t, test.body[:test.first], string(got))
			require.Equal(t, test.replayable, body.replayable())
			second, err := body.attempt()
			if !test.replayable {
				require.ErrorIs(t, err, errBodyGone)
				return
			}
			require.NoError(t, err)
			all, err := io.ReadAll(second)
			require.NoError(t, err)
			require.True(t, bytes.Equal([]byte(test.body), all))
		})
	}
}

func TestReplayBodyGivesWhatAnOldAttemptReadToTheNew(t *testing.T) {
	reader, writer := io.Pipe()
	body := newReplayBody(reader)
	old, err := body.attempt()
	require.NoError(t, err)
	oldGot := make(chan string)
	go func() {
		buffer := make([]byte, 10)
		n, _ := old.Read(buffer)
		oldGot <- string(buffer[:n])
	}()
	_, err = writer.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", <-oldGot)
	fresh, err := body.attempt()
	require.NoError(t, err)
	go func() { _ = writer.CloseWithError(errors.New("client left")) }()
	all, err := io.ReadAll(fresh)
	require.EqualError(t, err, "client left")
	require.Equal(t, "hello", string(all))
}

func TestNoBody(t *testing.T) { require.True(t, (*replayBody)(nil).replayable()) }
