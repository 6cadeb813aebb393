// SPDX-License-Identifier: Apache-2.0

package redirect_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/redirect"
)

var update = flag.Bool("update", false, "write the golden files")

// cases are rendered as text here and put in force by the tests in network namespaces.
func cases(t *testing.T) map[string]redirect.Config {
	t.Helper()
	skipping := redirect.DefaultConfig()
	skipping.SkipInboundPorts = ports(t, "9000-9100, 25")
	skipping.SkipOutboundPorts = ports(t, "3306,5432,5433-5440,443")

	other := redirect.DefaultConfig()
	other.ProxyUID, other.OutboundPort, other.InboundPort = 1337, 15001, 15006
	other.SkipInboundPorts = ports(t, "4190-4192")
	return map[string]redirect.Config{
		"default": redirect.DefaultConfig(),
		"skip":    skipping,
		"other":   other,
	}
}

func ports(t *testing.T, list string) []redirect.PortRange {
	t.Helper()
	ranges, err := redirect.ParsePorts(list)
	require.NoError(t, err)
	return ranges
}

func TestRules(t *testing.T) {
	for name, config := range cases(t) {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, golden(t, name, redirect.Text("inet", redirect.Rules(config))),
				redirect.Text("inet", redirect.Rules(config)))
		})
	}
}

func golden(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join("testdata", name+".nft")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(want)
}

func TestRulesDoNotDependOnTheOrderOfPorts(t *testing.T) {
	one, two := redirect.DefaultConfig(), redirect.DefaultConfig()
	one.SkipInboundPorts = ports(t, "80,443,81-90,85")
	two.SkipInboundPorts = ports(t, "443,85,81-90,80,80")
	require.Equal(t, redirect.Rules(one), redirect.Rules(two))
}

func TestParsePorts(t *testing.T) {
	for _, test := range []struct{ list, want, err string }{
		{list: "", want: ""},
		{list: " 25 , 8000 - 8080 ,", want: "25,8000-8080"},
		{list: "65535", want: "65535"},
		{list: "0", err: `"0": write a port from 1 to 65535 or a range such as 8000-8080`},
		{list: "65536", err: `"65536": write a port from 1 to 65535 or a range such as 8000-8080`},
		{list: "http", err: `"http": write a port from 1 to 65535 or a range such as 8000-8080`},
		{list: "90-80", err: `"90-80": a range must ascend`},
		{list: "1-2-3", err: `"1-2-3": write a port from 1 to 65535 or a range such as 8000-8080`},
	} {
		t.Run(test.list, func(t *testing.T) {
			ranges, err := redirect.ParsePorts(test.list)
			if test.err != "" {
				require.EqualError(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, redirect.FormatPorts(ranges))
		})
	}
}
