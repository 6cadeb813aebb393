// SPDX-License-Identifier: Apache-2.0

// Package binaries builds the programs that the test bed runs: other people's from the modules
// under e2e/tools, each with pins of its own, and ours from the main module. Other people's are
// kept outside the checkout, in the user's cache directory, in a folder named after everything that
// went into them, so that a second checkout or a second run builds nothing.
//
// Concurrent callers, in one process or several, build each program once: a file lock per program.
// All are static and built with the same flags, so that the compiler's own cache is shared too.
//
// It must not start what it builds, and must not write outside the cache and the checkout's build
// directory.
package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/e2e/filelock"
)

// Flags of every build. Any other flags would compile all dependencies a second time.
const (
	linkFlags = "-s -w"
	trimPath  = "-trimpath"
)

// Builder builds into one cache.
type Builder struct {
	root  string
	cache string
	// kubernetes is the folder that pins the Kubernetes to build.
	kubernetes string
	progress   io.Writer
}

// New returns a Builder for the checkout that holds the working directory. Progress is written a
// line at a time.
func New(progress io.Writer) (*Builder, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the user's cache directory (set HOME or XDG_CACHE_HOME): %w", err)
	}
	kubernetes, err := kubernetesFolder(root, os.Getenv(EnvKubernetes))
	if err != nil {
		return nil, err
	}
	return &Builder{root: root, cache: filepath.Join(cache, "sluice", "bin"), kubernetes: kubernetes, progress: progress}, nil
}

// Tool returns the path of a program of Tools, building it if it is not in the cache.
func (b *Builder) Tool(ctx context.Context, name string) (string, error) {
	tool, err := b.find(name)
	if err != nil {
		return "", err
	}
	key, err := b.key(tool)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.cache, tool.Name, key)
	path := filepath.Join(dir, tool.Name)
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create the cache of %s: %w", tool.Name, err)
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(dir, ".lock"), func() {
		b.say("%s: waiting for another build of it", tool.Name)
	})
	if err != nil {
		return "", fmt.Errorf("lock the cache of %s: %w", tool.Name, err)
	}
	defer unlock()
	if exists(path) {
		return path, nil
	}
	if err := b.buildTool(ctx, tool, path); err != nil {
		return "", err
	}
	return path, nil
}

// buildTool leaves the program at path, whole or not at all.
func (b *Builder) buildTool(ctx context.Context, tool Tool, path string) error {
	version, err := b.stamp(tool)
	if err != nil {
		return err
	}
	unfinished := path + ".unfinished"
	arguments := buildArguments(tool, version, unfinished)
	module := filepath.Join(b.root, toolsDirectory, tool.Module)
	if err := b.run(ctx, tool.Name, module, arguments); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return fmt.Errorf("put %s into the cache: %w", tool.Name, err)
	}
	return nil
}

// Own builds one of our main packages, given relative to the checkout as "./proxy/cmd/sluice-proxy"
// or ".", into build/bin under the given name. The compiler decides what is out of date.
func (b *Builder) Own(ctx context.Context, packagePath, name string) (string, error) {
	dir := filepath.Join(b.root, "build", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create the build directory: %w", err)
	}
	path := filepath.Join(dir, name)
	unlock, err := filelock.Lock(ctx, filepath.Join(dir, "."+name+".lock"), func() {
		b.say("%s: waiting for another build of it", name)
	})
	if err != nil {
		return "", fmt.Errorf("lock the build of %s: %w", name, err)
	}
	defer unlock()
	tool := Tool{Name: name, Package: packagePath}
	if err := b.run(ctx, name, b.root, buildArguments(tool, "", path)); err != nil {
		return "", err
	}
	return path, nil
}

// run runs the go command in a module and says how long it took.
func (b *Builder) run(ctx context.Context, name, dir string, arguments []string) error {
	b.say("%s: building", name)
	started := time.Now()
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	// An interrupt lets the go command remove its work directory.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	output, err := command.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build %s: %w", name, context.Cause(ctx))
		}
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("build %s: the go command is not in PATH: %w", name, err)
		}
		return fmt.Errorf("build %s (go %s in %s): %w\n%s", name, strings.Join(arguments, " "), dir, err, tail(output, 40))
	}
	b.say("%s: built in %.1f s", name, time.Since(started).Seconds())
	return nil
}

// ModuleDir returns where a dependency of e2e/tools/<module> lies unpacked, for the manifests and
// configuration that projects ship beside their code.
func (b *Builder) ModuleDir(ctx context.Context, module, dependency string) (string, error) {
	directory := filepath.Join(b.root, toolsDirectory, module)
	// Listing does not unpack a module that no build has needed yet; downloading does.
	for _, arguments := range [][]string{
		{"list", "-m", "-f", "{{.Dir}}", dependency},
		{"mod", "download", dependency},
		{"list", "-m", "-f", "{{.Dir}}", dependency},
	} {
		command := exec.CommandContext(ctx, "go", arguments...)
		command.Dir = directory
		command.Env = append(os.Environ(), "GOWORK=off")
		var complaint strings.Builder
		command.Stderr = &complaint
		output, err := command.Output()
		if err != nil {
			return "", fmt.Errorf("find module %s (go %s in %s): %w\n%s", dependency, strings.Join(arguments, " "), directory, err, complaint.String())
		}
		if found := strings.TrimSpace(string(output)); found != "" {
			return found, nil
		}
	}
	return "", fmt.Errorf("find module %s: it is not a dependency of %s", dependency, directory)
}

// buildArguments are those of the go command. version is empty unless the program gets one stamped.
func buildArguments(tool Tool, version, output string) []string {
	arguments := []string{"build", trimPath, "-buildvcs=false", "-ldflags", linkFlags + versionFlags(version)}
	if tool.Tags != "" {
		arguments = append(arguments, "-tags", tool.Tags)
	}
	return append(arguments, "-o", output, tool.Package)
}

func (b *Builder) say(format string, values ...any) {
	// Progress that cannot be shown is no reason to fail.
	_, _ = fmt.Fprintf(b.progress, format+"\n", values...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tail is the end of a program's output, where its complaint is.
func tail(output []byte, lines int) string {
	all := strings.Split(strings.TrimRight(string(output), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
