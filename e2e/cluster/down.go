// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Down removes the cluster and everything it made on the machine. It can be repeated, and needs no
// state to find what an interrupted one left: everything has a name of its own.
func Down(ctx context.Context, log io.Writer) error {
	if os.Getenv(EnvExisting) == "yes" {
		return fmt.Errorf("bring down the cluster: %s is yes, and what is not ours stays", EnvExisting)
	}
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("bring down the cluster: only root can, on the Linux machine where it runs")
	}
	l := newLayout()
	unlock, err := l.lock(ctx, log)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.remove(ctx); err != nil {
		return fmt.Errorf("bring down the cluster: %w", err)
	}
	_, _ = fmt.Fprintln(log, "cluster is down")
	return ignoreMissing(os.Remove(l.lockFile()))
}

// Down removes this cluster.
func (c *Cluster) Down(ctx context.Context, log io.Writer) error { return Down(ctx, log) }

// remove goes from the outside in: first those who would start things again, then what they started,
// then what that had held.
func (l layout) remove(ctx context.Context) error {
	names, err := l.components()
	if err != nil {
		return err
	}
	var watchers, runtimes []string
	for _, name := range names {
		if strings.HasSuffix(name, "-containerd") {
			runtimes = append(runtimes, name)
		} else {
			watchers = append(watchers, name)
		}
	}
	if err := l.stopAll(ctx, watchers); err != nil {
		return err
	}
	if err := l.stopAll(ctx, runtimes); err != nil {
		return err
	}
	var failures []error
	for _, n := range nodes() {
		failures = append(failures, removeCgroup(ctx, n))
	}
	failures = append(failures,
		l.killShims(ctx),
		unmountBelow(l.dir),
		removeNetwork(ctx),
		l.restoreSysctls(),
		l.removeStrays(),
	)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove the state directory: %w", err)
	}
	return nil
}

// components are those that have a pid file.
func (l layout) components() ([]string, error) {
	entries, err := os.ReadDir(l.path("pids"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the cluster's processes: %w", err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

func (l layout) stopAll(ctx context.Context, names []string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error { return l.stop(ctx, name) })
	}
	return group.Wait()
}

// networkNotes are what the network plugins wrote down about our pods outside our directory.
func (l layout) networkNotes() []string {
	// Patterns of our own are always good.
	notes, _ := filepath.Glob("/var/lib/cni/results/" + cniNetwork + "-*")
	for _, n := range nodes() {
		sandboxes, _ := filepath.Glob(l.path(n.name, "containerd", "io.containerd.grpc.v1.cri", "sandboxes", "*"))
		for _, sandbox := range sandboxes {
			loopback, _ := filepath.Glob("/var/lib/cni/results/*-" + filepath.Base(sandbox) + "-*")
			notes = append(notes, loopback...)
		}
	}
	return notes
}

// deadSockets are those of containers' supervisors on which nobody listens any more. They are never
// listened on again, so that it does not matter whose they were.
func deadSockets() []string {
	var dead []string
	found, _ := filepath.Glob("/run/containerd/s/*")
	for _, path := range found {
		connection, err := net.Dial("unix", path)
		switch {
		case err == nil:
			_ = connection.Close()
		case errors.Is(err, syscall.ECONNREFUSED):
			dead = append(dead, path)
		}
	}
	return dead
}

// killShims kills every process that serves one of our containerds: the supervisors outlive it by
// design.
func (l layout) killShims(ctx context.Context) error {
	return poll(ctx, func(context.Context) (bool, error) {
		left := 0
		found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range found {
			content, err := os.ReadFile(path)
			if err != nil || !l.isShim(content) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				continue
			}
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return left == 0, nil
	})
}

// isShim looks at a command line as the kernel shows it: words that end in zero bytes.
func (l layout) isShim(commandLine []byte) bool {
	words := bytes.Split(commandLine, []byte{0})
	if !strings.HasPrefix(filepath.Base(string(words[0])), "containerd-shim") {
		return false
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(string(word), l.dir+"/") {
			return true
		}
	}
	return false
}

// removeStrays removes what kubelet, containerd and the CNI plugins put where no setting moves it.
func (l layout) removeStrays() error {
	var failures []error
	for _, path := range slices.Concat(l.networkNotes(), deadSockets()) {
		failures = append(failures, ignoreMissing(os.Remove(path)))
	}
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, l.dir+"/") {
			failures = append(failures, ignoreMissing(os.Remove(link)))
		}
	}
	// Both kubelets leave a device plugin directory; it is ours when nothing else is there.
	for _, path := range []string{
		"/var/lib/kubelet/device-plugins/kubelet.sock", "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
		"/var/lib/kubelet/device-plugins/DEPRECATION",
	} {
		if !fileExists("/var/lib/kubelet/config.yaml") && !fileExists("/var/lib/kubelet/pki") {
			failures = append(failures, ignoreMissing(os.Remove(path)))
		}
	}
	for _, dir := range []string{
		"/var/lib/cni/results", "/var/lib/cni", "/var/log/containers", "/run/containerd/s", "/run/containerd",
		"/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
	} {
		// Only empty ones go.
		_ = syscall.Rmdir(dir)
	}
	return errors.Join(failures...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
