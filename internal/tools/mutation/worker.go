// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// mostMemory of address space: a mutant that never ends must not take the machine with it.
const mostMemory = 8 << 20 // KiB

// worker is a running program of a package's tests, which tries one test after the other.
type worker struct {
	command *exec.Cmd
	orders  io.WriteCloser
	answers *os.File
	lines   *bufio.Reader
	output  *tail
}

// answer to one order.
type answer struct {
	failed bool
	// ended: the test took the program with it, or was ended because it took too long.
	ended bool
	took  time.Duration
	// stays: the program can be asked again.
	stays   bool
	reached []int
}

func startWorker(ctx context.Context, program, pkg string) (*worker, error) {
	command := exec.CommandContext(ctx, "/bin/sh", "-c", fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, mostMemory), program, "-test.short", "-test.timeout=0")
	command.Dir, command.Env = pkg, append(os.Environ(), ordersVariable+"=1")
	w := &worker{command: command, output: &tail{}}
	command.Stdout, command.Stderr = w.output, w.output
	var err error
	if w.orders, err = command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe for orders: %w", err)
	}
	answers, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for answers: %w", err)
	}
	command.ExtraFiles = []*os.File{theirs}
	w.answers, w.lines = answers, bufio.NewReader(answers)
	if err := errors.Join(command.Start(), theirs.Close()); err != nil {
		return nil, fmt.Errorf("start the tests of %s: %w", pkg, err)
	}
	return w, nil
}

// try one test with a mutant switched on.
func (w *worker) try(number int, pattern string, limit time.Duration) (answer, error) {
	// A program that has ended takes no order; that it gives no answer tells so.
	_, _ = fmt.Fprintln(w.orders, number, limit.Milliseconds(), pattern)
	line, err := w.lines.ReadString('\n')
	if err != nil {
		return answer{failed: true, ended: true}, nil //nolint:nilerr // its end is an answer
	}
	return parseAnswer(line)
}

func parseAnswer(line string) (a answer, err error) {
	var took int64
	var reached string
	if _, err := fmt.Sscanf(line, "%t %d %t %q", &a.failed, &took, &a.stays, &reached); err != nil {
		return a, fmt.Errorf("the tests say %q: %w", line, err)
	}
	a.took = time.Duration(took) * time.Microsecond
	for _, word := range strings.Fields(strings.Trim(reached, "[]")) {
		number, err := strconv.Atoi(word)
		if err != nil {
			return a, fmt.Errorf("the tests say %q: %w", line, err)
		}
		a.reached = append(a.reached, number)
	}
	return a, nil
}

// end the program; nothing is asked of it any more.
func (w *worker) end() {
	_ = w.orders.Close()
	_ = w.command.Wait()
	_ = w.answers.Close()
}

// tail keeps the end of what is written.
type tail struct{ text []byte }

const longestTail = 16 << 10

func (t *tail) Write(text []byte) (int, error) {
	t.text = append(t.text, text...)
	if over := len(t.text) - longestTail; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(text), nil
}
