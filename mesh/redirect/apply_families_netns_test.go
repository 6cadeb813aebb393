// SPDX-License-Identifier: Apache-2.0

//go:build linux && netns

package redirect

import (
	"os/exec"
	"runtime"
	"testing"

	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestNetnsFamilies puts in force the forms that kernels without the inet family get.
func TestNetnsFamilies(t *testing.T) {
	for name, families := range map[string][]nftables.TableFamily{
		"a table per family": {nftables.TableFamilyIPv4, nftables.TableFamilyIPv6},
		"IPv4 only":          {nftables.TableFamilyIPv4},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			var names []string
			var err error
			listed := map[string]string{}
			go func() {
				defer close(done)
				// Never unlocked: the thread takes its namespace with it when the goroutine ends.
				runtime.LockOSThread()
				if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
					return
				}
				for range 2 {
					if names, err = applyFamilies(families, Rules(DefaultConfig())); err != nil {
						return
					}
				}
				for _, family := range names {
					output, _ := exec.Command("nft", "list", "table", family, TableName).CombinedOutput()
					listed[family] = string(output)
				}
			}()
			<-done
			require.NoError(t, err)
			require.Len(t, names, len(families))
			for family, text := range listed {
				require.Equal(t, Text(family, Rules(DefaultConfig())), text)
			}
		})
	}
}
