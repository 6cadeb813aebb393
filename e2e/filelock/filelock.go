// SPDX-License-Identifier: Apache-2.0

// Package filelock is an advisory lock between processes of one machine.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes an exclusive lock on a file that every process of the machine respects, and that the
// kernel drops when the holder dies. waiting is called once if somebody else holds it. The holder may
// remove the file.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for told := false; ; {
		file, err := try(path)
		if err != nil {
			return nil, err
		}
		if file != nil {
			return func() { _ = file.Close() }, nil
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-retry.C:
		}
	}
}

// try returns the locked file, or nil when somebody else holds it.
func try(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && isAt(file, path) {
		return file, nil
	}
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, file.Close()
	}
	return nil, errors.Join(fmt.Errorf("flock %s: %w", path, err), file.Close())
}

// isAt is false when the file was removed between its opening and its locking.
func isAt(file *os.File, path string) bool {
	locked, err := file.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(path)
	return err == nil && os.SameFile(locked, found)
}
