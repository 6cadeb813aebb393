// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/cluster"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
	"github.com/sluice-mesh/sluice/e2e/monitoring"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// Repositories of our programs' images. Their tags name their content, so that a changed program is a
// changed pod template: the stage is set again by rolling what is out of date.
const (
	repositorySluice = "sluice.dev/sluice"
	repositoryProxy  = "sluice.dev/sluice-proxy"
)

// images builds programs and puts them into the cluster as soon as there is one.
type images struct {
	builder *binaries.Builder
	up      <-chan struct{} // closed when the cluster is up
	stage   *Stage
}

// imageSpec is an image to be made.
type imageSpec struct {
	reference string
	tagged    bool      // the reference is a repository; the content gives the tag
	programs  []program // the first is the entry point
}

// program is one of ours, or a tool when it has no package.
type program struct{ name, packagePath string }

// load builds all images, one after the other: the compiler uses all processors by itself. Each goes
// into the cluster while the next is being built.
func (i *images) load(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, spec := range []imageSpec{
		{repositorySluice, true, []program{{"sluice", "."}}},
		{repositoryProxy, true, []program{{"sluice-proxy", "./proxy/cmd/sluice-proxy"}, {"sluice-redirect", "./mesh/redirect/cmd/sluice-redirect"}}},
		{incluster.Image, false, []program{{"sluice-load", "./e2e/load/cmd/sluice-load"}}},
		{sampleapp.Image, false, []program{{"podinfo", ""}}},
		{monitoring.Image, false, []program{{"prometheus", ""}}},
	} {
		image, err := i.assemble(ctx, spec)
		if err != nil {
			cancel()
			_ = group.Wait() // it has no worse news than this
			return err
		}
		group.Go(func() error { return i.put(ctx, image) })
	}
	return group.Wait()
}

// assemble builds what goes into an image.
func (i *images) assemble(ctx context.Context, spec imageSpec) (cluster.Image, error) {
	image := cluster.Image{
		Reference: spec.reference, Files: map[string]string{}, Entrypoint: []string{"/" + spec.programs[0].name},
	}
	for _, p := range spec.programs {
		path, err := i.build(ctx, p)
		if err != nil {
			return cluster.Image{}, err
		}
		image.Files["/"+p.name] = path
	}
	if spec.reference == repositorySluice {
		i.stage.Sluice = image.Files["/sluice"]
	}
	if spec.tagged {
		tag, err := contentTag(image.Files)
		if err != nil {
			return cluster.Image{}, err
		}
		image.Reference += ":" + tag
		i.stage.tags[spec.reference] = tag
	}
	return image, nil
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

// contentTag names programs by what they are.
func contentTag(files map[string]string) (string, error) {
	sum := sha256.New()
	for _, target := range slices.Sorted(maps.Keys(files)) {
		content, err := os.Open(files[target])
		if err != nil {
			return "", fmt.Errorf("name an image: %w", err)
		}
		_, err = io.Copy(sum, content)
		_ = content.Close()
		if err != nil {
			return "", fmt.Errorf("name an image: %w", err)
		}
	}
	return "dev-" + hex.EncodeToString(sum.Sum(nil))[:12], nil
}
