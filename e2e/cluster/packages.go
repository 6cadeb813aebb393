// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// pluginDirectories are where distributions put the CNI plugins.
func pluginDirectories() []string {
	return []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
}

// missingPackages are the Debian packages of the programs that are not there.
func missingPackages() []string {
	var missing []string
	for _, need := range []struct{ program, debian string }{
		{"containerd", "containerd"},
		{"ctr", "containerd"},
		{"runc", "runc"},
		{"nft", "nftables"},
		{"ip", "iproute2"},
		{"nsenter", "util-linux"},
		{"git", "git"},
	} {
		if _, err := exec.LookPath(need.program); err != nil {
			missing = append(missing, need.debian)
		}
	}
	if _, err := pluginDirectory(); err != nil {
		missing = append(missing, "containernetworking-plugins")
	}
	return missing
}

func pluginDirectory() (string, error) {
	for _, dir := range pluginDirectories() {
		if fileExists(dir+"/ptp") && fileExists(dir+"/host-local") {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find the CNI plugins ptp and host-local: none of %s has them", strings.Join(pluginDirectories(), ", "))
}

// installPackages installs what is missing with apt-get, from the lists there are, or else from
// fresh ones.
func installPackages(ctx context.Context, say func(string)) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install %s: there is no apt-get here; install what these Debian packages hold by hand", strings.Join(missing, " "))
	}
	say("installing " + strings.Join(missing, " "))
	install := append([]string{"install", "--yes", "--no-install-recommends"}, missing...)
	first := aptGet(ctx, install...)
	if first == nil {
		return nil
	}
	if err := aptGet(ctx, "update"); err != nil {
		return errors.Join(first, err)
	}
	return aptGet(ctx, install...)
}

func aptGet(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet", "-o", "DPkg::Lock::Timeout=300"}, arguments...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(arguments, " "), err, output)
	}
	return nil
}
