// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What several programs share is required at one version, in its module and in those under e2e/tools,
// and so compiled once: without this a machine with an empty cache compiles for twice as long. The
// list has what is dear to compile, and what that itself depends on.
func TestSharedPinsAreEqual(t *testing.T) {
	shared := []string{
		"github.com/google/gnostic-models", "github.com/prometheus/client_golang", "github.com/prometheus/common",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/sdk", "golang.org/x/crypto", "golang.org/x/net",
		"golang.org/x/sys", "golang.org/x/text", "google.golang.org/grpc", "google.golang.org/protobuf", "k8s.io/api",
		"k8s.io/apimachinery", "k8s.io/apiserver", "k8s.io/client-go", "k8s.io/kube-openapi", "k8s.io/utils",
		"sigs.k8s.io/structured-merge-diff/v6",
	}
	root, err := Root()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, toolsDirectory, "*", "go.mod"))
	require.NoError(t, err)
	// Older versions of Kubernetes have what they were released with.
	files = slices.DeleteFunc(files, func(path string) bool {
		return strings.HasPrefix(filepath.Base(filepath.Dir(path)), "kubernetes-")
	})
	require.Greater(t, len(files), 5)
	for _, module := range shared {
		wanted := map[string][]string{}
		for _, file := range append(files, filepath.Join(root, "go.mod")) {
			if version := required(t, file, module); version != "" {
				wanted[version] = append(wanted[version], file)
			}
		}
		require.Len(t, wanted, 1, "%s: raise all to the highest of these versions with go get", module)
	}
}

// required is the version of a module that a go.mod asks for, or puts in its place.
func required(t *testing.T, file, module string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	version := ""
	for line := range strings.Lines(string(content)) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		switch {
		case len(words) >= 2 && words[0] == module && strings.HasPrefix(words[1], "v"):
			version = words[1]
		case len(words) >= 4 && words[0] == module && words[1] == "=>":
			version = words[3]
		}
	}
	return version
}
