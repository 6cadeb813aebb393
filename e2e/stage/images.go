// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/cluster"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
	"github.com/sluice-mesh/sluice/e2e/monitoring"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// Images of our programs in the test bed; the chart's tag defaults to another.
const (
	imageSluice = "sluice.dev/sluice:dev"
	imageProxy  = "sluice.dev/sluice-proxy:dev"
)

// images builds programs and puts them into the cluster as soon as there is one.
type images struct {
	builder *binaries.Builder
	up      <-chan struct{} // closed when the cluster is up
	stage   *Stage
}

// program is one of ours, or a tool when it has no package.
type program struct{ name, packagePath string }

// load builds all images, one after the other: the compiler uses all processors by itself. Each goes
// into the cluster while the next is being built.
func (i *images) load(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, image := range []struct {
		reference string
		programs  []program // the first is the entry point
	}{
		{imageSluice, []program{{"sluice", "."}}},
		{imageProxy, []program{{"sluice-proxy", "./proxy/cmd/sluice-proxy"}, {"sluice-redirect", "./mesh/redirect/cmd/sluice-redirect"}}},
		{incluster.Image, []program{{"sluice-load", "./e2e/load/cmd/sluice-load"}}},
		{sampleapp.Image, []program{{"podinfo", ""}}},
		{monitoring.Image, []program{{"prometheus", ""}}},
	} {
		built := cluster.Image{Reference: image.reference, Files: map[string]string{}}
		for _, p := range image.programs {
			path, err := i.build(ctx, p)
			if err != nil {
				cancel()
				_ = group.Wait() // it has no worse news than this
				return err
			}
			built.Files["/"+p.name] = path
		}
		built.Entrypoint = []string{"/" + image.programs[0].name}
		if image.reference == imageSluice {
			i.stage.Sluice = built.Files["/sluice"]
		}
		group.Go(func() error { return i.put(ctx, built) })
	}
	return group.Wait()
}

func (i *images) build(ctx context.Context, p program) (string, error) {
	if p.packagePath == "" {
		return i.builder.Tool(ctx, p.name)
	}
	return i.builder.Own(ctx, p.packagePath, p.name)
}

func (i *images) put(ctx context.Context, image cluster.Image) error {
	select {
	case <-i.up:
	case <-ctx.Done():
		return fmt.Errorf("load image %s: %w", image.Reference, context.Cause(ctx))
	}
	if i.stage.Cluster.Existing() {
		return nil // its nodes pull what they need, or have it
	}
	return i.stage.Cluster.LoadImages(ctx, image)
}
