// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cluster

import "errors"

// Elsewhere nothing of this is reached: Up refuses first.
var errNotLinux = errors.New("only Linux has this")

func isNamespace(string) bool { return false }

func inNamespace(string, func() error) error { return errNotLinux }

func hasNetfilterTables() bool { return false }

func hasVeth() bool { return false }

func unmountBelow(string) error { return errNotLinux }
