// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Image is one made of static programs and plain files, nothing else: no shell, no package manager.
type Image struct {
	// Reference as pods name it, "sluice.dev/podinfo:dev".
	Reference string
	// Files by their absolute path in the image, each with the path of its source here. Modes are
	// those of the source.
	Files map[string]string
	// Entrypoint is the command; the first word is one of Files.
	Entrypoint []string
	// User is numeric, so that runAsNonRoot can be checked; default 65532:65532.
	User string
}

const defaultUser = "65532:65532"

// LoadImages makes images and imports them on both nodes, leaving out what is there already. Pods
// use them with imagePullPolicy Never or IfNotPresent.
func (c *Cluster) LoadImages(ctx context.Context, images ...Image) error {
	if c.existing {
		return fmt.Errorf("load images: %s points at a cluster that is not ours, whose nodes must be able to pull them", EnvExisting)
	}
	for _, image := range images {
		built, err := image.build()
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		for _, n := range nodes() {
			group.Go(func() error { return c.layout.importImage(ctx, n, image.Reference, built) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// build makes the image in memory: one layer, the same bytes for the same files.
func (i Image) build() (v1.Image, error) {
	layer, err := i.layer()
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Reference, err)
	}
	// Uncompressed: it never travels.
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerUncompressedLayer))
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Reference, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Reference, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture()
	config.Config.Entrypoint = i.Entrypoint
	config.Config.User = i.User
	if i.User == "" {
		config.Config.User = defaultUser
	}
	config.Config.Env = []string{"PATH=/"}
	config.Config.WorkingDir = "/"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Reference, err)
	}
	return image, nil
}

// layer is a tar of the files and a /tmp that everybody may write to.
func (i Image) layer() ([]byte, error) {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	directories := map[string]bool{"tmp/": true}
	for target := range i.Files {
		for dir := path.Dir(strings.TrimPrefix(path.Clean(target), "/")); dir != "."; dir = path.Dir(dir) {
			directories[dir+"/"] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(directories)) {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode}); err != nil {
			return nil, err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(i.Files)) {
		if err := addFile(writer, strings.TrimPrefix(path.Clean(target), "/"), i.Files[target]); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func addFile(writer *tar.Writer, target, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", source)
	}
	if err := writer.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: target, Size: info.Size(), Mode: int64(info.Mode().Perm() | 0o444),
	}); err != nil {
		return err
	}
	_, err = io.Copy(writer, file)
	return err
}

// importImage streams the image into a node's containerd, unless a file beside it says that this
// very image is there.
func (l layout) importImage(ctx context.Context, n node, reference string, image v1.Image) error {
	digest, err := image.Digest()
	if err != nil {
		return fmt.Errorf("name image %s: %w", reference, err)
	}
	marker := l.path(n.name, "images", strings.NewReplacer("/", "_", ":", "_").Replace(reference))
	if content, err := os.ReadFile(marker); err == nil && string(content) == digest.String() {
		return nil
	}
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(tarball.Write(tag, image, writer)) }()
	command := exec.CommandContext(ctx, "ctr", "--address", l.containerdSocket(n), "--namespace", "k8s.io", "images", "import", "-")
	command.Stdin = reader
	output, err := command.CombinedOutput()
	// Whatever was not read must not keep the writer waiting.
	closeErr := reader.Close()
	if err := errors.Join(err, closeErr); err != nil {
		return fmt.Errorf("import image %s on %s: %w\n%s", reference, n.name, err, output)
	}
	if err := os.MkdirAll(l.path(n.name, "images"), 0o755); err != nil {
		return fmt.Errorf("record image %s on %s: %w", reference, n.name, err)
	}
	if err := os.WriteFile(marker, []byte(digest.String()), 0o644); err != nil {
		return fmt.Errorf("record image %s on %s: %w", reference, n.name, err)
	}
	return nil
}
