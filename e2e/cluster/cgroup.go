// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// hierarchy is one mounted tree of control groups: with version 1 one of several.
type hierarchy struct {
	path        string
	unified     bool
	controllers []string
}

// cgroupHierarchies are those mounted on this machine.
func cgroupHierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the control groups: %w", err)
	}
	found := parseHierarchies(string(content))
	for i := range found {
		if !found[i].unified {
			continue
		}
		controllers, err := os.ReadFile(filepath.Join(found[i].path, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("list the controllers: %w", err)
		}
		found[i].controllers = strings.Fields(string(controllers))
	}
	return found, nil
}

// parseHierarchies reads mountinfo, whose lines are fields, a dash, and then type, source, options.
func parseHierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			found = append(found, hierarchy{path: fields[4], controllers: strings.Split(kind[2], ",")})
		case "cgroup2":
			found = append(found, hierarchy{path: fields[4], unified: true})
		}
	}
	return found
}

// missingControllers are those that kubelet refuses to start without.
func missingControllers(hierarchies []hierarchy) []string {
	var missing []string
	for _, needed := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.ContainsFunc(hierarchies, func(h hierarchy) bool { return slices.Contains(h.controllers, needed) }) {
			missing = append(missing, "the control group controller "+needed)
		}
	}
	return missing
}

// createCgroup makes a node's root in every hierarchy. Version 1 does not inherit cpusets; version 2
// hands controllers down only when told.
func createCgroup(n node) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, each := range hierarchies {
		dir := filepath.Join(each.path, n.cgroup())
		if each.unified {
			for _, controller := range each.controllers {
				// Some cannot be handed down everywhere; kubelet names those it misses.
				_ = os.WriteFile(filepath.Join(each.path, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create the control group of %s: %w", n.name, err)
		}
		if err := preferNode(each, dir); err != nil {
			return fmt.Errorf("set the processor share of %s: %w", n.name, err)
		}
		if !slices.Contains(each.controllers, "cpuset") || each.unified {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			content, err := os.ReadFile(filepath.Join(each.path, file))
			if err != nil {
				return fmt.Errorf("read the machine's %s: %w", file, err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
				return fmt.Errorf("set the %s of %s: %w", file, n.name, err)
			}
		}
	}
	return nil
}

// preferNode gives what runs on a node more of the processors than what runs beside the nodes: the control
// plane, Git and the tests stand for other machines, whose load is none of the pods' business.
func preferNode(in hierarchy, dir string) error {
	const times = 16 // the usual share
	switch {
	case !slices.Contains(in.controllers, "cpu"):
		return nil
	case in.unified:
		return os.WriteFile(filepath.Join(dir, "cpu.weight"), []byte(strconv.Itoa(times*100)), 0o644)
	}
	return os.WriteFile(filepath.Join(dir, "cpu.shares"), []byte(strconv.Itoa(times*1024)), 0o644)
}

// removeCgroup kills everything in a node's control groups and removes them.
func removeCgroup(ctx context.Context, n node) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, each := range hierarchies {
		root := filepath.Join(each.path, n.cgroup())
		if err := poll(ctx, func(context.Context) (bool, error) {
			killAndRemove(root)
			return !fileExists(root), nil
		}); err != nil {
			return fmt.Errorf("remove the control group %s: %w", root, err)
		}
	}
	return nil
}

// killAndRemove does what can be done now: processes need a moment to die.
func killAndRemove(root string) {
	var dirs []string
	// What vanishes meanwhile is what is wanted.
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range dirs {
		// One that cannot be read is gone.
		content, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, word := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	for _, dir := range slices.Backward(dirs) {
		_ = syscall.Rmdir(dir)
	}
}
