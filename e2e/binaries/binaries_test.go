// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKubernetesMinorIsThePinnedOne(t *testing.T) {
	builder, err := New(t.Output())
	require.NoError(t, err)
	version, err := builder.KubernetesVersion()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(version, "v"+KubernetesMinor+"."), "KubernetesMinor is %s, e2e/tools/kubernetes pins %s", KubernetesMinor, version)
}

func TestOlderKubernetesIsPinnedToo(t *testing.T) {
	for _, minor := range []string{"1.34", "1.35", KubernetesMinor} {
		t.Setenv(EnvKubernetes, minor)
		builder, err := New(t.Output())
		require.NoError(t, err)
		version, err := builder.KubernetesVersion()
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(version, "v"+minor+"."), version)
		tool, err := builder.find("kube-controller-manager")
		require.NoError(t, err)
		_, err = builder.key(tool)
		require.NoError(t, err)
	}
	t.Setenv(EnvKubernetes, "1.2")
	_, err := New(t.Output())
	require.EqualError(t, err, `SLUICE_KUBERNETES="1.2": write one of 1.36, 1.34, 1.35`)
}

func TestEveryToolHasItsModule(t *testing.T) {
	builder, err := New(t.Output())
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, tool := range Tools() {
		key, err := builder.key(tool)
		require.NoError(t, err, tool.Name)
		require.Len(t, key, 20)
		require.False(t, seen[tool.Name], "%s is listed twice", tool.Name)
		seen[tool.Name] = true
	}
}

func TestUnknownToolNamesTheKnown(t *testing.T) {
	builder, err := New(t.Output())
	require.NoError(t, err)
	_, err = builder.Tool(t.Context(), "kube-apisrever")
	require.ErrorContains(t, err, `no tool is called "kube-apisrever"`)
	require.ErrorContains(t, err, "kube-apiserver")
}

func TestBuildArguments(t *testing.T) {
	cases := map[string]struct {
		tool    Tool
		version string
		want    string
	}{
		"plain": {
			tool: Tool{Name: "etcd", Package: "go.etcd.io/etcd/server/v3"},
			want: "build -trimpath -buildvcs=false -ldflags -s -w -o out go.etcd.io/etcd/server/v3",
		},
		"tags": {
			tool: Tool{Name: "prometheus", Package: "p", Tags: "a,b"},
			want: "build -trimpath -buildvcs=false -ldflags -s -w -tags a,b -o out p",
		},
		"stamped": {
			tool: Tool{Name: "kubelet", Package: "k"}, version: "v1.36.3",
			want: "build -trimpath -buildvcs=false -ldflags -s -w" +
				" -X k8s.io/component-base/version.gitVersion=v1.36.3" +
				" -X k8s.io/component-base/version.gitMajor=1" +
				" -X k8s.io/component-base/version.gitMinor=36" +
				" -X k8s.io/component-base/version.gitTreeState=clean -o out k",
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, strings.Join(buildArguments(test.tool, test.version, "out"), " "))
		})
	}
}

// checkout makes a small one with a tool called etcd that needs no download.
func checkout(t *testing.T, program string) *Builder {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"go.mod":                 "module " + mainModule + "\n\ngo 1.26\n",
		"cmd/own/main.go":        program,
		"e2e/tools/etcd/go.mod":  "module go.etcd.io/etcd/server/v3\n\ngo 1.26\n",
		"e2e/tools/etcd/go.sum":  "",
		"e2e/tools/etcd/main.go": program,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(content), 0o644))
	}
	return &Builder{root: root, cache: t.TempDir(), progress: t.Output()}
}

const emptyProgram = "package main\n\nfunc main() {}\n"

func TestConcurrentCallersBuildOnce(t *testing.T) {
	builder := checkout(t, emptyProgram)
	var progress lockedBuffer
	builder.progress = &progress

	var group sync.WaitGroup
	paths := make([]string, 4)
	for i := range paths {
		group.Go(func() {
			path, err := builder.Tool(context.Background(), "etcd")
			if err == nil {
				paths[i] = path
			}
		})
	}
	group.Wait()
	for _, path := range paths {
		require.FileExists(t, path)
		require.Equal(t, paths[0], path)
	}
	require.Equal(t, 1, strings.Count(progress.String(), "built in"), progress.String())
}

func TestKeyFollowsSource(t *testing.T) {
	builder := checkout(t, emptyProgram)
	tool, err := builder.find("etcd")
	require.NoError(t, err)
	before, err := builder.key(tool)
	require.NoError(t, err)
	source := filepath.Join(builder.root, "e2e/tools/etcd/main.go")
	require.NoError(t, os.WriteFile(source, []byte(emptyProgram+"\n// changed\n"), 0o644))
	after, err := builder.key(tool)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}

func TestFailedBuildLeavesNothingAndSaysWhy(t *testing.T) {
	builder := checkout(t, "package main\n\nfunc main() { undefined() }\n")
	_, err := builder.Tool(t.Context(), "etcd")
	require.ErrorContains(t, err, "undefined")
	found, globErr := filepath.Glob(filepath.Join(builder.cache, "etcd", "*", "etcd*"))
	require.NoError(t, globErr)
	require.Empty(t, found)
}

func TestOwnAndBatch(t *testing.T) {
	builder := checkout(t, emptyProgram)
	path, err := builder.Own(t.Context(), "./cmd/own", "own")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(builder.root, "build", "bin", "own"), path)
	require.FileExists(t, path)

	batch := builder.Start(t.Context(), "etcd")
	path, err = batch.Wait(t.Context(), "etcd")
	require.NoError(t, err)
	require.FileExists(t, path)
	_, err = batch.Wait(t.Context(), "kubelet")
	require.ErrorContains(t, err, "not in this batch")
}

type lockedBuffer struct {
	lock   sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(content []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.Write(content)
}

func (b *lockedBuffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.String()
}
