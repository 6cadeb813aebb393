// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed config
var configs embed.FS

const (
	namespace = "sluice-benchproxy"
	// vip is the Service address that the redirect sends to the proxy.
	vip       = "10.96.0.1"
	startTime = 10 * time.Second
	rules     = "table ip sluice_bench { chain output { type nat hook output priority -100; ip daddr " + vip + " tcp dport 80 redirect to :4140; }; }"
)

// contender is a way to the application.
type contender struct {
	name string
	url  string
	// process is the one whose processor time counts, with its children; 0 for none.
	process int
}

// bed is a network namespace with an application and the contenders.
type bed struct {
	directory string
	proxy     string
	processes []*exec.Cmd
}

func newBed(ctx context.Context, proxy string) (*bed, error) {
	proxy, err := filepath.Abs(proxy)
	if err != nil {
		return nil, fmt.Errorf("find the proxy: %w", err)
	}
	directory, err := os.MkdirTemp("", "benchproxy")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	b := &bed{directory: directory, proxy: proxy}
	if err := b.prepare(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bed) prepare(ctx context.Context) error {
	names, err := fs.Glob(configs, "config/*")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := configs.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.directory, filepath.Base(name)), text, 0o644); err != nil {
			return fmt.Errorf("write a configuration: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.directory, "body.txt"), bytes.Repeat([]byte("x"), 1<<10), 0o644); err != nil {
		return fmt.Errorf("write the content: %w", err)
	}
	if err := os.Chmod(b.directory, 0o755); err != nil { // Workers run as another user.
		return err
	}
	for _, words := range [][]string{
		{"ip", "netns", "add", namespace},
		{"ip", "-n", namespace, "link", "set", "lo", "up"},
		{"ip", "-n", namespace, "addr", "add", vip + "/32", "dev", "lo"},
		{"ip", "netns", "exec", namespace, "nft", rules},
	} {
		if output, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, output)
		}
	}
	return nil
}

// start starts the application and the contenders.
func (b *bed) start(ctx context.Context) ([]contender, error) {
	contenders := []contender{
		{name: "direct", url: "http://127.0.0.1:9000/body.txt"},
		{name: "sluice", url: "http://" + vip + "/body.txt"},
		{name: "nginx", url: "http://127.0.0.1:9001/body.txt"},
		{name: "haproxy", url: "http://127.0.0.1:9002/body.txt"},
	}
	for i, words := range [][]string{
		{"nginx", "-p", b.directory, "-c", "backend.conf"},
		{b.proxy, "-snapshot", filepath.Join(b.directory, "snapshot.json")},
		{"nginx", "-p", b.directory, "-c", "nginx.conf"},
		{"haproxy", "-db", "-f", filepath.Join(b.directory, "haproxy.cfg")},
	} {
		process, err := b.run(ctx, words...)
		if err != nil {
			return nil, err
		}
		if contenders[i].name != "direct" {
			contenders[i].process = process
		}
	}
	for _, each := range contenders {
		if err := b.await(ctx, each); err != nil {
			return nil, err
		}
	}
	return contenders, nil
}

// run starts a program in the namespace. It ends with the bed.
func (b *bed) run(ctx context.Context, words ...string) (int, error) {
	command := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace}, words...)...)
	command.Env = append(os.Environ(), "SLUICE_POD_IP=198.18.0.1", "SLUICE_LOG_LEVEL=warn")
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", words[0], err)
	}
	b.processes = append(b.processes, command)
	return command.Process.Pid, nil // ip becomes the program.
}

// await waits until a contender answers.
func (b *bed) await(ctx context.Context, each contender) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		output, err := b.command(ctx, "wrk", "-t1", "-c1", "-d1s", each.url).Output()
		if rate, parseErr := parseWrk(output); err == nil && parseErr == nil && rate.rate > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer %s with %d", each.name, each.url, http.StatusOK)
		case <-tick.C:
		}
	}
}

func (b *bed) command(ctx context.Context, words ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace}, words...)...)
}

func (b *bed) close() {
	for _, process := range b.processes {
		_ = process.Process.Signal(os.Interrupt) // It may have ended.
	}
	for _, process := range b.processes {
		_ = process.Wait() // How it ended says nothing.
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	err := exec.CommandContext(ctx, "ip", "netns", "del", namespace).Run()
	if err = errors.Join(err, os.RemoveAll(b.directory)); err != nil {
		fmt.Fprintln(os.Stderr, "benchproxy: clean up:", err)
	}
}
