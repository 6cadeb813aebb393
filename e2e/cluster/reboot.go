// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// rememberBoot writes down which boot of the machine the state belongs to.
func (l layout) rememberBoot() error {
	current, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("name this boot: %w", err)
	}
	if err := os.WriteFile(l.path("boot"), current, 0o644); err != nil {
		return fmt.Errorf("write down this boot: %w", err)
	}
	return nil
}

// afterReboot removes the state of an earlier boot: its containers are gone, their records are not.
func (l layout) afterReboot(ctx context.Context, log io.Writer) error {
	remembered, err := os.ReadFile(l.path("boot"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last boot: %w", err)
	}
	current, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("name this boot: %w", err)
	}
	if string(current) == string(remembered) {
		return nil
	}
	_, _ = fmt.Fprintln(log, "the machine was started anew since the cluster was: beginning afresh")
	return l.remove(ctx)
}
