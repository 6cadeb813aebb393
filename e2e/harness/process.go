// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// errExited marks a child process that ended by itself.
var errExited = errors.New("ended by itself")

// command is a child process to be.
type command struct {
	name, path, log string
	arguments       []string
}

// process is a running child process. A nil one is stopped.
type process struct {
	command
	kill func()
	done chan struct{}
}

// collectLess trades memory for processors: a fifth of what an API server needs is for collecting
// garbage.
const collectLess = "GOGC=400"

// startProcess starts a child that the kernel kills when this process dies. The kernel watches the
// thread that started the child, so one stays reserved until the child has ended.
func startProcess(command command) (*process, error) {
	log, err := os.Create(command.log)
	if err != nil {
		return nil, fmt.Errorf("create the log of %s: %w", command.name, err)
	}
	child := exec.Command(command.path, command.arguments...)
	child.Dir = filepath.Dir(command.log)
	child.Stdout, child.Stderr = log, log
	child.Env = append(os.Environ(), collectLess)
	child.SysProcAttr = dieWithParent()
	running := &process{command: command, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }()
		err := child.Start()
		started <- err
		if err == nil {
			// How it ended is in its log.
			_ = child.Wait()
			close(running.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", command.name, err)
	}
	running.kill = func() { _ = child.Process.Kill() }
	return running, nil
}

func (p *process) stop() {
	if p == nil {
		return
	}
	p.kill()
	<-p.done
}

func (p *process) failure() error {
	return fmt.Errorf("%s %w:\n%s", p.name, errExited, p.tail())
}

// tail is the end of the log.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

const directoryBase = "sluice-harness-"

// directoryPrefix carries the process id, so that sweep can tell what was left behind.
func directoryPrefix() string { return directoryBase + strconv.Itoa(os.Getpid()) + "-" }

// sweep removes the directories of test processes that were killed before they could do it.
func sweep(parent string) {
	found, err := filepath.Glob(filepath.Join(parent, directoryBase+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), directoryBase), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			// What cannot be removed is somebody else's.
			_ = os.RemoveAll(dir)
		}
	}
}
