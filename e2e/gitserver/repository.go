// SPDX-License-Identifier: Apache-2.0

package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Branch is the one that Repository commits to.
const Branch = "main"

// Repository is one repository under a Server's directory, with a work tree beside it.
type Repository struct {
	bare, work string
}

// Change is one commit.
type Change struct {
	// Files to write, by path.
	Files map[string][]byte
	// Delete these paths.
	Delete []string
	// Author as "Name <address>".
	Author  string
	Message string
}

// Init makes a repository, or opens it when it is there.
func (s *Server) Init(ctx context.Context, name string) (*Repository, error) {
	r := &Repository{
		bare: filepath.Join(s.options.Directory, name+".git"),
		work: filepath.Join(s.options.Directory, name+".work"),
	}
	if _, err := os.Stat(r.work); err == nil {
		return r, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open repository %s: %w", name, err)
	}
	if _, err := command(ctx, "", "init", "--quiet", "--bare", "--initial-branch="+Branch, r.bare); err != nil {
		return nil, err
	}
	if _, err := command(ctx, "", "init", "--quiet", "--initial-branch="+Branch, r.work); err != nil {
		return nil, err
	}
	if _, err := command(ctx, r.work, "remote", "add", "origin", r.bare); err != nil {
		return nil, err
	}
	return r, nil
}

// Commit writes a change, pushes it and returns its hash. A change that changes nothing is a commit
// too.
func (r *Repository) Commit(ctx context.Context, change Change) (string, error) {
	for path, content := range change.Files {
		file := filepath.Join(r.work, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", fmt.Errorf("write %s: %w", path, err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return "", fmt.Errorf("write %s: %w", path, err)
		}
	}
	for _, path := range change.Delete {
		if err := os.RemoveAll(filepath.Join(r.work, filepath.FromSlash(path))); err != nil {
			return "", fmt.Errorf("delete %s: %w", path, err)
		}
	}
	if _, err := command(ctx, r.work, "add", "--all"); err != nil {
		return "", err
	}
	name, address, _ := strings.Cut(strings.TrimSuffix(change.Author, ">"), " <")
	_, err := command(ctx, r.work, "-c", "user.name="+name, "-c", "user.email="+address,
		"commit", "--quiet", "--allow-empty", "--message", change.Message)
	if err != nil {
		return "", err
	}
	return r.push(ctx)
}

// Revert undoes a commit by a new one, as `git revert` does.
func (r *Repository) Revert(ctx context.Context, commit, author string) (string, error) {
	name, address, _ := strings.Cut(strings.TrimSuffix(author, ">"), " <")
	if _, err := command(ctx, r.work, "-c", "user.name="+name, "-c", "user.email="+address, "revert", "--no-edit", commit); err != nil {
		return "", err
	}
	return r.push(ctx)
}

// Head is the hash of the newest commit that the server has.
func (r *Repository) Head(ctx context.Context) (string, error) {
	return command(ctx, r.bare, "rev-parse", "refs/heads/"+Branch)
}

// Contains says whether a commit is another or among what came before it.
func (r *Repository) Contains(ctx context.Context, tip, commit string) (bool, error) {
	missing, err := command(ctx, r.bare, "rev-list", "--count", tip+".."+commit)
	return missing == "0", err
}

// Read returns a file as it is in the newest commit that the server has.
func (r *Repository) Read(ctx context.Context, path string) (string, error) {
	return command(ctx, r.bare, "show", "refs/heads/"+Branch+":"+path)
}

func (r *Repository) push(ctx context.Context) (string, error) {
	if _, err := command(ctx, r.work, "push", "--quiet", "origin", "HEAD:refs/heads/"+Branch); err != nil {
		return "", err
	}
	return r.Head(ctx)
}

// command runs git in a directory and returns its trimmed output.
func command(ctx context.Context, directory string, arguments ...string) (string, error) {
	process := exec.CommandContext(ctx, "git", arguments...)
	process.Dir = directory
	process.Env = append(os.Environ(), isolated()...)
	var out, complaint bytes.Buffer
	process.Stdout, process.Stderr = &out, &complaint
	if err := process.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
