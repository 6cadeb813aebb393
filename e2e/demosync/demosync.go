// SPDX-License-Identifier: Apache-2.0

// Package demosync keeps a cluster as a Git repository says, for the demo: clone, kustomize build,
// server-side apply in stages, prune what is gone, every second or two, drift included. It is made
// of the libraries that Flux is made of, so what it does to objects is what Flux does.
//
// It is a demo and must not become more: one repository, one path, no secrets, no health checks. It
// refuses to run beside Flux or Argo CD, which do this for a living.
package demosync

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
	"github.com/fluxcd/pkg/kustomize"
	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sluice-mesh/sluice/e2e/apply"
)

// FieldManager is the one that the sync writes as.
const FieldManager = "sluice-demo-sync"

// Options of a Sync.
type Options struct {
	URL    string
	Branch string
	// Path of the kustomization in the repository.
	Path string
	// Interval between two looks at Git and the cluster.
	Interval time.Duration
	// Directory for clones; it is emptied at each new commit.
	Directory string
	// Name and Namespace of the ConfigMap that holds the inventory.
	Name, Namespace string
	// Report is called after each look that found something to say: an error or changes.
	Report func(Result, error)
}

// Result is what one look did.
type Result struct {
	// Revision is the commit that the cluster was brought to.
	Revision string
	// Changes, one line each; empty when everything was as Git says.
	Changes []string
}

// Sync keeps one cluster.
type Sync struct {
	options  Options
	manager  *ssa.ResourceManager
	revision string
	objects  []*unstructured.Unstructured
}

// New makes a Sync; Run starts it.
func New(config *rest.Config, options Options) (*Sync, error) {
	manager, err := apply.Manager(config, FieldManager)
	if err != nil {
		return nil, fmt.Errorf("make the demo's sync: %w", err)
	}
	return &Sync{options: options, manager: manager}, nil
}

// Run looks at Git and the cluster until ctx ends.
func (s *Sync) Run(ctx context.Context) error {
	if err := s.refuseBesideOthers(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(s.options.Interval)
	defer ticker.Stop()
	for {
		result, err := s.Once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || len(result.Changes) > 0 {
			s.options.Report(result, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Once brings the cluster to the branch's head.
func (s *Sync) Once(ctx context.Context) (Result, error) {
	if err := s.fetch(ctx); err != nil {
		return Result{Revision: s.revision}, err
	}
	result := Result{Revision: s.revision}
	if s.revision == "" {
		return result, nil
	}
	// Apply writes into what it is given; what was built stays as built.
	objects := make([]*unstructured.Unstructured, len(s.objects))
	for i, object := range s.objects {
		objects[i] = object.DeepCopy()
	}
	options := ssa.DefaultApplyOptions()
	options.WaitInterval = 200 * time.Millisecond
	changes, err := s.manager.ApplyAllStaged(ctx, objects, options)
	if err != nil {
		return result, fmt.Errorf("apply %s: %w", s.revision, err)
	}
	for _, entry := range changes.Entries {
		if entry.Action != ssa.UnchangedAction {
			result.Changes = append(result.Changes, entry.String())
		}
	}
	pruned, err := s.prune(ctx, objects)
	result.Changes = append(result.Changes, pruned...)
	if err != nil {
		return result, err
	}
	return result, s.record(ctx, objects)
}

// fetch clones and builds when the branch has moved.
func (s *Sync) fetch(ctx context.Context) error {
	directory := filepath.Join(s.options.Directory, "clone")
	if err := os.RemoveAll(directory); err != nil {
		return fmt.Errorf("empty the clone: %w", err)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("make the clone's directory: %w", err)
	}
	repo, err := gogit.NewClient(directory, &git.AuthOptions{Transport: git.HTTP})
	if err != nil {
		return fmt.Errorf("make a Git client: %w", err)
	}
	defer repo.Close()
	last := ""
	if s.revision != "" {
		last = s.options.Branch + "@sha1:" + s.revision
	}
	commit, err := repo.Clone(ctx, s.options.URL, repository.CloneConfig{
		CheckoutStrategy:   repository.CheckoutStrategy{Branch: s.options.Branch},
		ShallowClone:       true,
		LastObservedCommit: last,
	})
	if err != nil {
		return fmt.Errorf("clone %s: %w", s.options.URL, err)
	}
	if commit == nil || !git.IsConcreteCommit(*commit) {
		return nil // the repository is empty, or has not moved
	}
	objects, err := Build(filepath.Join(directory, filepath.FromSlash(s.options.Path)))
	if err != nil {
		return fmt.Errorf("build %s at %s: %w", s.options.Path, commit.Hash, err)
	}
	s.manager.SetOwnerLabels(objects, s.options.Name, s.options.Namespace)
	s.revision, s.objects = commit.Hash.String(), objects
	return nil
}

// Build runs kustomize in a directory.
func Build(directory string) ([]*unstructured.Unstructured, error) {
	built, err := kustomize.Build(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, fmt.Errorf("run kustomize: %w", err)
	}
	content, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("write what kustomize built: %w", err)
	}
	return apply.Objects(content)
}

// refuseBesideOthers keeps two tools from syncing one cluster.
func (s *Sync) refuseBesideOthers(ctx context.Context) error {
	for tool, definition := range map[string]string{
		"Flux":    "kustomizations.kustomize.toolkit.fluxcd.io",
		"Argo CD": "applications.argoproj.io",
	} {
		found := &metav1.PartialObjectMetadata{}
		found.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := s.manager.Client().Get(ctx, client.ObjectKey{Name: definition}, found)
		switch {
		case err == nil:
			return fmt.Errorf("%s is installed in this cluster (%s): the demo's sync does not run beside it", tool, definition)
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("look for %s: %w", tool, err)
		}
	}
	return nil
}
