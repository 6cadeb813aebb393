// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package flux

import "syscall"

// dieWithParent cannot: only Linux kills children with their parent.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
