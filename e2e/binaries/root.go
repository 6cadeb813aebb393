// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const mainModule = "github.com/sluice-mesh/sluice"

// Root is the checkout that holds the working directory. Tests run in their package's folder and
// `go run` where it was called, so both find it.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find the checkout: %w", err)
		}
		first, _, _ := strings.Cut(string(content), "\n")
		if strings.TrimSpace(first) == "module "+mainModule {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the checkout: neither %s nor a folder above it holds module %s; run this inside a checkout", start, mainModule)
		}
	}
}
