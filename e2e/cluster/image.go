// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
		if err := c.layout.loadImage(ctx, image); err != nil {
			return err
		}
	}
	return nil
}

// loadImage builds the image only for nodes that do not have it.
func (l layout) loadImage(ctx context.Context, image Image) error {
	key, err := image.key()
	if err != nil {
		return err
	}
	var without []node
	for _, n := range nodes() {
		if content, err := os.ReadFile(l.imageMarker(n, image.Reference)); err != nil || string(content) != key {
			without = append(without, n)
		}
	}
	if len(without) == 0 {
		return nil
	}
	built, err := image.build()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range without {
		group.Go(func() error {
			if err := l.importImage(ctx, n, image.Reference, built); err != nil {
				return err
			}
			return writeFiles(map[string][]byte{l.imageMarker(n, image.Reference): []byte(key)})
		})
	}
	return group.Wait()
}

// imageMarker is a file that says which image a node has under a reference.
func (l layout) imageMarker(n node, reference string) string {
	return l.path(n.name, "images", strings.NewReplacer("/", "_", ":", "_").Replace(reference))
}

// key names what goes into the image.
func (i Image) key() (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%q %q %q\n", i.Reference, i.Entrypoint, i.User)
	for _, target := range slices.Sorted(maps.Keys(i.Files)) {
		if err := hashFile(sum, target, i.Files[target]); err != nil {
			return "", fmt.Errorf("build image %s: %w", i.Reference, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func hashFile(sum io.Writer, target, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(sum, "%q %d %s\n", target, info.Size(), info.Mode())
	_, err = io.Copy(sum, file)
	return err
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

// importImage streams the image into a node's containerd.
func (l layout) importImage(ctx context.Context, n node, reference string, image v1.Image) error {
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
	return nil
}
