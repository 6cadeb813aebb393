// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// record is what a pid file says: which process, and what it was started with. The start time tells
// it from a later process with the same number.
type record struct {
	pid     int
	started string
	digest  string
}

// collectLess trades memory for processors, of which a test machine has fewer: a fifth of what an API
// server needs is for collecting garbage.
const collectLess = "GOGC=400"

func (l layout) pidFile(name string) string { return l.path("pids", name) }

// ensure starts a component that does not run, or runs with other arguments or files than these. The
// process outlives this one.
func (l layout) ensure(ctx context.Context, c component) error {
	digest, err := c.digest()
	if err != nil {
		return err
	}
	if running, ok := l.running(c.name); ok {
		if running.digest == digest {
			return nil
		}
		if err := l.stop(ctx, c.name); err != nil {
			return err
		}
	}
	for _, path := range []string{l.pidFile(c.name), l.log(c.name)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	log, err := os.OpenFile(l.log(c.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	defer func() { _ = log.Close() }()
	child := exec.Command(c.arguments[0], c.arguments[1:]...)
	child.Dir = l.dir
	child.Stdout, child.Stderr = log, log
	child.Env = append(os.Environ(), collectLess)
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	// Should it end while we live, it must not stay as a zombie.
	go func() { _ = child.Wait() }()
	state, err := readProcess(child.Process.Pid)
	if err != nil {
		return fmt.Errorf("start %s: it ended at once:\n%s", c.name, l.tail(c.name))
	}
	content := fmt.Sprintf("%d %s %s\n", child.Process.Pid, state.started, digest)
	if err := os.WriteFile(l.pidFile(c.name), []byte(content), 0o644); err != nil {
		return errors.Join(fmt.Errorf("record %s: %w", c.name, err), child.Process.Kill())
	}
	return nil
}

// digest names arguments and the content of the files that the component reads once.
func (c component) digest() (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%q\n", c.arguments)
	for _, path := range c.reads {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("start %s: %w", c.name, err)
		}
		_, _ = fmt.Fprintf(sum, "%q\n", content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// running tells whether the recorded process lives.
func (l layout) running(name string) (record, bool) {
	content, err := os.ReadFile(l.pidFile(name))
	if err != nil {
		return record{}, false
	}
	words := strings.Fields(string(content))
	if len(words) != 3 {
		return record{}, false
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil {
		return record{}, false
	}
	state, err := readProcess(pid)
	if err != nil || state.zombie || state.started != words[1] {
		return record{}, false
	}
	return record{pid: pid, started: words[1], digest: words[2]}, true
}

// stop asks a component to end, and after two seconds does not ask.
func (l layout) stop(ctx context.Context, name string) error {
	running, ok := l.running(name)
	if !ok {
		return l.forget(name)
	}
	_ = syscall.Kill(running.pid, syscall.SIGTERM)
	patience, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ended := func(context.Context) (bool, error) {
		_, alive := l.running(name)
		return !alive, nil
	}
	if poll(patience, ended) != nil {
		_ = syscall.Kill(running.pid, syscall.SIGKILL)
		if err := poll(ctx, ended); err != nil {
			return fmt.Errorf("stop %s (process %d): %w", name, running.pid, err)
		}
	}
	return l.forget(name)
}

func (l layout) forget(name string) error {
	if err := os.Remove(l.pidFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	return nil
}

// tail is the end of a component's log.
func (l layout) tail(name string) string {
	content, err := os.ReadFile(l.log(name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return l.log(name) + " ends with:\n" + strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// await polls until ready says so, and gives up when one of the components that it depends on ends.
func (l layout) await(ctx context.Context, ready func(context.Context) (bool, error), components ...string) error {
	var last error
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		done, err := ready(ctx)
		last = err
		if done {
			return true, nil
		}
		for _, name := range components {
			if _, alive := l.running(name); !alive {
				return false, fmt.Errorf("%s has ended; %s", name, l.tail(name))
			}
		}
		return false, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w (last seen: %w)", err, last)
	}
	return err
}

// poll asks every 50 ms until the answer is yes, an error, or ctx ends.
func poll(ctx context.Context, ready func(context.Context) (bool, error)) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		done, err := ready(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
}

type processState struct {
	zombie  bool
	started string
}

// readProcess reads what the kernel says of a process.
func readProcess(pid int) (processState, error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return processState{}, err
	}
	return parseStat(string(content))
}

// parseStat reads /proc/<pid>/stat. The second field is the name in parentheses and may hold
// anything; after it come the state and, 19 fields on, the start time.
func parseStat(content string) (processState, error) {
	end := strings.LastIndex(content, ")")
	if end < 0 {
		return processState{}, fmt.Errorf("parse process state %q: no name", content)
	}
	fields := strings.Fields(content[end+1:])
	const startTime = 19
	if len(fields) <= startTime {
		return processState{}, fmt.Errorf("parse process state %q: too few fields", content)
	}
	return processState{zombie: fields[0] == "Z" || fields[0] == "X", started: fields[startTime]}, nil
}
