// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are the tests with all changes, built when they are needed.
type programs struct {
	// directory of the package that is changed.
	directory    string
	files, built map[string]string
}

func newPrograms(directory string, files map[string]string) *programs {
	return &programs{directory: directory, files: files, built: map[string]string{}}
}

func (j *judge) program(ctx context.Context, made *programs, pkg string) (string, error) {
	if program, built := made.built[pkg]; built {
		return program, nil
	}
	changed, err := golist(ctx, made.directory, "{{.ImportPath}}")
	if err != nil {
		return "", err
	}
	name, err := golist(ctx, pkg, "{{.Name}}")
	if err != nil {
		return "", err
	}
	files := maps.Clone(made.files)
	files[filepath.Join(pkg, "mutation_main_test.go")] = fmt.Sprintf(mainFile, name, changed, ordersVariable)
	program, err := j.build(ctx, pkg, files)
	if err == nil {
		made.built[pkg] = program
	}
	return program, err
}

func golist(ctx context.Context, directory, format string) (string, error) {
	command := exec.CommandContext(ctx, "go", "list", "-f", format, ".")
	command.Dir = directory
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("ask what package is in %s: %w", directory, err)
	}
	return strings.TrimSpace(string(output)), nil
}

// build compiles the tests of a package with some files replaced. Nobody debugs them: a linker that
// writes no symbols takes half the time.
func (j *judge) build(ctx context.Context, pkg string, files map[string]string) (program string, err error) {
	overlay, err := j.overlay(files)
	if err != nil {
		return "", err
	}
	directory, err := os.MkdirTemp(j.dir, "")
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	program = filepath.Join(directory, filepath.Base(pkg)+".test")
	output, err := exec.CommandContext(ctx, "go", "test", "-trimpath", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", program, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the tests of %s: %w: %s", pkg, err, output)
	}
	return program, nil
}

// overlay writes changed files and what the compiler takes them for.
func (j *judge) overlay(files map[string]string) (path string, err error) {
	replace := map[string]string{}
	for path, content := range files {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", path, err)
		}
		replace[absolute] = filepath.Join(j.dir, filepath.Base(path))
		if err := os.WriteFile(replace[absolute], []byte(content), 0o600); err != nil {
			return "", fmt.Errorf("write a changed file: %w", err)
		}
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("encode the overlay: %w", err)
	}
	path = filepath.Join(j.dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	return path, nil
}
