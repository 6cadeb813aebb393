// SPDX-License-Identifier: Apache-2.0

// Package flux runs the real Flux for tests and demos: source-controller and kustomize-controller as
// processes of this machine that work on a cluster through its kubeconfig, their definitions in the
// cluster, one GitRepository and Kustomization per thing to sync. Their logs are kept, because what
// Flux says that it changed is what a test has to judge.
//
// It must not stand in for Flux anywhere: nothing here applies what is in Git.
package flux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-mesh/sluice/e2e/apply"
	"github.com/sluice-mesh/sluice/e2e/binaries"
)

// Namespace holds Flux's objects.
const Namespace = "flux-system"

// fieldManager writes Flux's definitions, by which Uninstall knows them again.
const fieldManager = "sluice-flux-bootstrap"

const (
	sourceController    = "source-controller"
	kustomizeController = "kustomize-controller"
)

// Programs is where Flux is on this machine.
type Programs struct {
	SourceController, KustomizeController string
	// Definitions are the folders of their CustomResourceDefinitions.
	Definitions []string
}

// Tools are the names of the programs, for builds in the background.
func Tools() []string { return []string{sourceController, kustomizeController} }

// Build makes the programs, or finds them in the cache.
func Build(ctx context.Context, builder *binaries.Builder) (Programs, error) {
	var programs Programs
	for name, path := range map[string]*string{
		sourceController: &programs.SourceController, kustomizeController: &programs.KustomizeController,
	} {
		var err error
		if *path, err = builder.Tool(ctx, name); err != nil {
			return Programs{}, err
		}
		module, err := builder.ModuleDir(ctx, name, "github.com/fluxcd/"+name)
		if err != nil {
			return Programs{}, err
		}
		programs.Definitions = append(programs.Definitions, filepath.Join(module, "config", "crd", "bases"))
	}
	return programs, nil
}

// Options of a Flux.
type Options struct {
	Programs   Programs
	Kubeconfig string
	// Directory keeps artifacts and logs.
	Directory string
}

// Flux is running.
type Flux struct {
	applier   *apply.Applier
	source    *process
	kustomize *process
}

// Start installs the definitions, starts both controllers and returns when they are ready.
func Start(ctx context.Context, options Options) (*Flux, error) {
	config, err := clientcmd.BuildConfigFromFlags("", options.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	applier, err := apply.New(config, fieldManager)
	if err != nil {
		return nil, err
	}
	f := &Flux{applier: applier}
	if err := f.install(ctx, options.Programs.Definitions); err != nil {
		return nil, err
	}
	if err := f.start(ctx, options); err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	return f, nil
}

// Stop ends the controllers; their objects stay.
func (f *Flux) Stop() error {
	return errors.Join(f.kustomize.stop(), f.source.stop())
}

func (f *Flux) install(ctx context.Context, folders []string) error {
	var all strings.Builder
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("find Flux's definitions in %s: %d files, %w", folder, len(files), err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read Flux's definitions: %w", err)
			}
			all.WriteString("---\n" + string(content) + "\n")
		}
	}
	all.WriteString("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + Namespace + "\n")
	if _, err := f.applier.Apply(ctx, []byte(all.String())); err != nil {
		return fmt.Errorf("install Flux: %w", err)
	}
	return nil
}

func (f *Flux) start(ctx context.Context, options Options) error {
	ports, err := freePorts(5)
	if err != nil {
		return err
	}
	storage := filepath.Join(options.Directory, "artifacts")
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return fmt.Errorf("make the directory of Flux's artifacts: %w", err)
	}
	environment := []string{
		"KUBECONFIG=" + options.Kubeconfig, "RUNTIME_NAMESPACE=" + Namespace, "SOURCE_CONTROLLER_LOCALHOST=" + ports[0],
	}
	f.source, err = startProcess(command{
		name: sourceController, path: options.Programs.SourceController, directory: options.Directory, environment: environment,
		arguments: []string{
			"--storage-path=" + storage, "--storage-addr=" + ports[0], "--storage-adv-addr=" + ports[0],
			"--metrics-addr=" + ports[1], "--health-addr=" + ports[2], "--events-addr=",
		},
	})
	if err != nil {
		return err
	}
	f.kustomize, err = startProcess(command{
		name: kustomizeController, path: options.Programs.KustomizeController, directory: options.Directory, environment: environment,
		arguments: []string{"--metrics-addr=" + ports[3], "--health-addr=" + ports[4], "--events-addr=", "--requeue-dependency=5s"},
	})
	if err != nil {
		return err
	}
	if err := f.source.awaitReady(ctx, "http://"+ports[2]+"/readyz"); err != nil {
		return err
	}
	return f.kustomize.awaitReady(ctx, "http://"+ports[4]+"/readyz")
}

// awaitReady returns when the address answers 200.
func (p *process) awaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask whether %s is ready: %w", p.name, err)
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s has ended (%w); its log is %s", p.name, p.err, p.log)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; its log is %s", p.name, context.Cause(ctx), p.log)
		case <-ticker.C:
		}
	}
}

// freePorts returns addresses of the loopback interface that nobody listens on now.
func freePorts(count int) ([]string, error) {
	var out []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find free ports: %w", err)
		}
		defer func() { _ = listener.Close() }()
		out = append(out, listener.Addr().String())
	}
	return out, nil
}
