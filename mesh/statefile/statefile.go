// SPDX-License-Identifier: Apache-2.0

// Package statefile keeps what a program knows for its next start, in one file that is replaced whole,
// that only its owner may read, and that is not used when it has been damaged.
//
// It must not know what it keeps.
package statefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// magic is the first word of each file, and the version of its form.
	magic = "sluice-state-1 "
	// Most is how many bytes are kept.
	Most = 8 << 20
)

var (
	// ErrDamaged says that a file is not what was written.
	ErrDamaged = errors.New("the file is damaged")
	// ErrLarge says that there is more than Most.
	ErrLarge = fmt.Errorf("more than %d bytes", Most)
)

// Write replaces a file. Whoever reads meanwhile, or after a crash, finds the old content or the new.
func Write(path string, content []byte) (err error) {
	if len(content) > Most {
		return fmt.Errorf("write %s: %w", path, ErrLarge)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // Its mode is 0600.
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(fresh.Name()) // The first error is the one that tells.
		}
	}()
	_, err = fresh.Write(append(header(content), content...))
	if err = errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return err
	}
	return os.Rename(fresh.Name(), path)
}

// Read returns what was written last. The error is fs.ErrNotExist when nothing was.
func Read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // Nothing was written.
	whole, err := io.ReadAll(io.LimitReader(file, int64(len(header(nil))+Most+1)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(whole) < len(header(nil)) {
		return nil, fmt.Errorf("read %s: %w", path, ErrDamaged)
	}
	content := whole[len(header(nil)):]
	if !bytes.Equal(whole[:len(header(nil))], header(content)) {
		return nil, fmt.Errorf("read %s: %w", path, ErrDamaged)
	}
	return content, nil
}

// header is a line of fixed length: what the file is, and the sum of what follows.
func header(content []byte) []byte {
	sum := sha256.Sum256(content)
	return []byte(magic + hex.EncodeToString(sum[:]) + "\n")
}
