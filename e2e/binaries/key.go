// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// key names everything that goes into a program: its pins, our own source beside them, the flags
// and the compiler.
func (b *Builder) key(tool Tool) (string, error) {
	version, err := b.stamp(tool)
	if err != nil {
		return "", err
	}
	module := filepath.Join(b.root, toolsDirectory, tool.Module)
	sources, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", fmt.Errorf("list the sources of %s: %w", tool.Name, err)
	}
	slices.Sort(sources)
	files := append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, sources...)

	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, os.Getenv("GOAMD64"), os.Getenv("GOARM64"))
	_, _ = fmt.Fprintf(sum, "%q\n", buildArguments(tool, version, ""))
	for _, path := range files {
		if err := hashFile(sum, path); err != nil {
			return "", fmt.Errorf("hash the sources of %s: %w", tool.Name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:20], nil
}

func hashFile(sum io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(sum, filepath.Base(path), info.Size())
	_, err = io.Copy(sum, file)
	return err
}
