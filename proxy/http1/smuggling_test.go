// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// smuggling is one case of the corpus.
type smuggling struct {
	line    int
	from    side
	verdict string
	data    []byte
}

func readCorpus(t testing.TB) []smuggling {
	t.Helper()
	text, err := os.ReadFile("testdata/smuggling.txt")
	require.NoError(t, err)
	var cases []smuggling
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.SplitN(line, " ", 3)
		require.Len(t, words, 3, "line %d", number)
		sides := map[string]side{"request": sideRequest, "response": sideResponse, "head": sideHead}
		require.Contains(t, sides, words[0], "line %d", number)
		data, err := strconv.Unquote(words[2])
		require.NoError(t, err, "line %d", number)
		cases = append(cases, smuggling{number, sides[words[0]], words[1], []byte(data)})
	}
	return cases
}

// verdictOf is what the corpus says of messages that were read and how that ended.
func verdictOf(messages []message, err error) string {
	var refused Error
	switch {
	case err == nil:
		return fmt.Sprintf("ok:%d", len(messages))
	case errors.As(err, &refused) && len(messages) > 0:
		return fmt.Sprintf("%s@%d", refused.Name(), len(messages))
	case errors.As(err, &refused):
		return refused.Name()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	}
	return err.Error()
}

func TestSmuggling(t *testing.T) {
	cases := readCorpus(t)
	require.GreaterOrEqual(t, len(cases), 150)
	for _, test := range cases {
		t.Run(strconv.Itoa(test.line), func(t *testing.T) {
			messages, err := read(test.data, test.from, Rules{})
			require.Equal(t, test.verdict, verdictOf(messages, err), "%q", test.data)
			judge(t, test.data, test.from)
			// What is refused because it can be read in two ways is refused by audits, too.
			audited, err := read(test.data, test.from, Rules{Audit: true})
			switch test.verdict {
			case "obs_fold", "field_control", "host_missing", "target_byte", "expect":
			default:
				require.Equal(t, test.verdict, verdictOf(audited, err))
			}
		})
	}
}
