// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// isNamespace tells a bound namespace from a plain file.
func isNamespace(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == unix.NSFS_MAGIC
}

// inNamespace calls f on a thread inside a network namespace. The thread ends with it: Go does not
// reuse one that was left locked.
func inNamespace(path string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			file, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("open the network namespace: %w", err)
			}
			defer func() { _ = file.Close() }()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the network namespace %s: %w", path, err)
			}
			return f()
		}()
	}()
	return <-result
}

func hasNetfilterTables() bool {
	connection, err := nftables.New()
	if err != nil {
		return false
	}
	_, err = connection.ListTables()
	return err == nil
}

// hasVeth: where it is built in, the kernel lists its parameters nowhere, so its symbol is looked for.
func hasVeth() bool {
	content, err := os.ReadFile("/proc/kallsyms")
	return err == nil && strings.Contains(string(content), " veth_newlink")
}

// unmountBelow unmounts everything under a directory, the latest first.
func unmountBelow(dir string) error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var failures []error
	for _, point := range slices.Backward(mountPoints(string(content), dir)) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			failures = append(failures, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(failures...)
}
