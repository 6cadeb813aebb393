// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func TestCanonicalJSON(t *testing.T) {
	for given, want := range map[string]string{
		`{"b":1,"a":[true,false,null,"x"]}`:   `{"a":[true,false,null,"x"],"b":1}`,
		`{"a":null,"b":{"c":null}}`:           `{"b":{}}`,
		` [ 1.50 , 1e2, -0, 1E-7, 1e21 ] `:    `[1.5,100,0,1e-7,1e+21]`,
		`12345678901234567890`:                `12345678901234567890`,
		`"\u0001\b\t\n\f\r\"\\\/<>&\u20ac"`:   `"\u0001\b\t\n\f\r\"\\/<>&€"`,
		"\"\u2028\x7f\"":                      "\"\u2028\x7f\"",
		`{"\ufb33":1,"\ud83d\ude02":2,"a":3}`: "{\"a\":3,\"\U0001F602\":2,\"\ufb33\":1}",
	} {
		out, err := canonicalJSON([]byte(given))
		require.NoError(t, err, given)
		require.Equal(t, want, string(out), given)
	}
	for _, given := range []string{``, `{`, `1 2`, `{"a":1}{}`, `[1e999]`, `nul`} {
		_, err := canonicalJSON([]byte(given))
		require.Error(t, err, given)
	}
}

// Whatever can be read has one form, which reads back as the same; and a record made of any bytes
// is judged without panic.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,"\u2028"],"b":null}`, `[[]]`, `"\ud800"`, `-0.0`, `{"entries":[{"number":1}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := canonicalJSON(raw)
		if err != nil {
			return
		}
		require.True(t, json.Valid(once), "%s", once)
		twice, err := canonicalJSON(once)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
	})
}

// FuzzVerify reads records as an attacker may write them.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"entries":[{"number":1,"folded":-5,"hash":"x"}],"head":{"number":1,"hash":"x","keyId":"k","signature":"AA=="}}`))
	f.Add([]byte(`{"outcome":"Promoted","entries":[{"folded":2147483647},{"folded":2147483647}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		run := &v1alpha1.CanaryRun{}
		if json.Unmarshal(raw, &run.Record) != nil {
			return
		}
		verified := Verify(run)
		if verified == nil && len(run.Record.Entries) > 0 && run.Record.Entries[0].Folded <= 0 {
			origin, err := Origin(run)
			require.NoError(t, err)
			want, err := hash(origin, &run.Record.Entries[0])
			require.NoError(t, err)
			require.Equal(t, want, run.Record.Entries[0].Hash)
		}
		require.Error(t, CheckHead(run, nil), "nothing is vouched for without a key")
		require.NoError(t, Shrink(run, 10, MaxBytes))
	})
}
