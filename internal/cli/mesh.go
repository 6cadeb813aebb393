// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/webhooktrust"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/ca"
	"github.com/sluice-mesh/sluice/mesh/discovery"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/inject"
)

const meshName = "sluice-mesh"

type meshOptions struct {
	managerOptions
	address         string
	trustDomain     string
	controlPlane    string
	proxyImage      string
	proxyPullPolicy string
	proxyResources  string
	injectDefault   string
	liveReports     bool
	defaultAccess   string
}

func newMesh() *cobra.Command {
	options := &meshOptions{}
	command := &cobra.Command{
		Use:   "mesh",
		Short: "Run the mesh's control plane: identities, discovery and the injector",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return options.run(command.Context(), command.ErrOrStderr())
		},
	}
	flags := command.Flags()
	options.bind(flags)
	flags.StringVar(&options.address, "address", ":8443", "where proxies get identities and configuration")
	flags.StringVar(&options.trustDomain, "trust-domain", "cluster.local", "trust domain of all identities")
	flags.StringVar(&options.controlPlane, "control-plane", "", "host:port at which proxies find this program; default is its Service")
	flags.StringVar(&options.proxyImage, "proxy-image", "sluice.dev/sluice-proxy:dev", "image that is injected")
	flags.StringVar(&options.proxyPullPolicy, "proxy-image-pull-policy", string(corev1.PullIfNotPresent), "Always, IfNotPresent or Never")
	flags.StringVar(&options.proxyResources, "proxy-resources", "", "the sidecar's resources, as in a pod, in JSON")
	flags.StringVar(&options.injectDefault, "inject-default", v1alpha1.InjectDisabled, "what happens to pods without the label sluice.dev/inject: enabled or disabled")
	flags.BoolVar(&options.liveReports, "live-reports", false, "ask proxies what they count twice a second while a workload has a run, for a controller with --live")
	flags.StringVar(&options.defaultAccess, "default-access", v1alpha1.DefaultAccessAllow, "who may call pods where neither an AccessPolicy nor the namespace says it: allow, meshed or deny")
	return command
}

func (o *meshOptions) run(ctx context.Context, out io.Writer) error {
	injection, domain, err := o.injection()
	if err != nil {
		return err
	}
	logger, err := o.logger(out)
	if err != nil {
		return err
	}
	config, err := o.load()
	if err != nil {
		return err
	}
	writer, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	issuer, err := ca.NewIssuer(ctx, ca.IssuerOptions{
		Client: writer, Namespace: o.namespace, TrustDomain: domain, Logger: logger.WithName("authority"),
	})
	if err != nil {
		return fmt.Errorf("make the mesh's certificate authority: %w", err)
	}
	parts := &meshParts{options: o, config: config, writer: writer, issuer: issuer, injection: injection, logger: logger}
	made, err := parts.assemble()
	if err != nil {
		return err
	}
	if err := made.Start(ctx); err != nil {
		return fmt.Errorf("run the mesh's control plane: %w", err)
	}
	return nil
}

// injection reads what is injected from the flags; the anchors come later.
func (o *meshOptions) injection() (inject.Config, spiffeid.TrustDomain, error) {
	config := inject.Config{
		ProxyImage:           o.proxyImage,
		ProxyImagePullPolicy: corev1.PullPolicy(o.proxyPullPolicy),
		ProxyResources:       inject.DefaultProxyResources(),
		TrustDomain:          o.trustDomain,
		ControlPlane:         o.controlPlane,
		InjectByDefault:      o.injectDefault == v1alpha1.InjectEnabled,
		SystemNamespace:      o.namespace,
	}
	domain, err := spiffeid.TrustDomainFromString(o.trustDomain)
	if err != nil {
		return config, domain, fmt.Errorf("--trust-domain %s: %w", o.trustDomain, err)
	}
	own, err := identity.ForServiceAccount(domain, o.namespace, meshName)
	if err != nil {
		return config, domain, fmt.Errorf("name the control plane: %w", err)
	}
	config.ControlPlaneIdentity = own.String()
	if config.ControlPlane == "" {
		_, port, err := net.SplitHostPort(o.address)
		if err != nil {
			return config, domain, fmt.Errorf("--address %s: %w", o.address, err)
		}
		config.ControlPlane = net.JoinHostPort(meshName+"."+o.namespace+".svc", port)
	}
	if o.injectDefault != v1alpha1.InjectEnabled && o.injectDefault != v1alpha1.InjectDisabled {
		return config, domain, fmt.Errorf("--inject-default %s: write enabled or disabled", o.injectDefault)
	}
	switch o.defaultAccess {
	case v1alpha1.DefaultAccessAllow, v1alpha1.DefaultAccessMeshed, v1alpha1.DefaultAccessDeny:
	default:
		return config, domain, fmt.Errorf("--default-access %s: write allow, meshed or deny", o.defaultAccess)
	}
	switch config.ProxyImagePullPolicy {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return config, domain, fmt.Errorf("--proxy-image-pull-policy %s: write Always, IfNotPresent or Never", o.proxyPullPolicy)
	}
	if o.proxyResources != "" {
		config.ProxyResources = corev1.ResourceRequirements{}
		if err := json.Unmarshal([]byte(o.proxyResources), &config.ProxyResources); err != nil {
			return config, domain, fmt.Errorf("--proxy-resources: %w", err)
		}
	}
	return config, domain, nil
}

// meshParts are what the control plane is assembled from.
type meshParts struct {
	options   *meshOptions
	config    *rest.Config
	writer    client.Client
	issuer    *ca.Issuer
	injection inject.Config
	logger    logr.Logger
}

func (p *meshParts) assemble() (manager.Manager, error) {
	o := p.options
	serving, err := p.issuer.Serving(o.namespace, meshName, serviceNames(meshName, o.namespace)...)
	if err != nil {
		return nil, fmt.Errorf("make the control plane's certificate: %w", err)
	}
	made, err := o.newManager(role{
		name: meshName, config: p.config, logger: p.logger, certificate: serving.GetCertificate, cached: discovery.CacheByObject(),
	})
	if err != nil {
		return nil, err
	}
	keeper := webhooktrust.New(webhooktrust.Options{
		Client: p.writer, Configuration: inject.WebhookConfiguration, Manager: meshName,
		Anchors: p.issuer.Anchors, Logger: p.logger.WithName("webhook"),
	})
	if err := addTrust(made, p.issuer, keeper); err != nil {
		return nil, err
	}
	made.GetWebhookServer().Register(inject.WebhookPath, &admission.Webhook{Handler: &inject.Webhook{
		Reader: made.GetClient(), Config: p.currentInjection,
	}})
	reader, err := o.reader(p.issuer.TrustDomain())
	if err != nil {
		return nil, err
	}
	watcher := discovery.NewServer(discovery.Options{
		Cache: made.GetCache(), Client: p.writer, TrustDomain: p.issuer.TrustDomain(), Reader: reader, Logger: p.logger,
		DefaultAccess: mesh.AccessDefault(o.defaultAccess),
	})
	mux := http.NewServeMux()
	mux.Handle(ca.NewServer(p.issuer, ca.NewTokenReviewer(p.writer), p.logger).Handler())
	mux.Handle(watcher.Handler())
	if o.liveReports {
		mux.Handle(watcher.LiveHandler())
	}
	tlsConfig := identity.BootstrapServerConfig(serving, p.issuer, p.issuer.TrustDomain())
	server := &grpcServer{address: o.address, handler: mux, tls: tlsConfig, logger: p.logger.WithName("server")}
	for _, runnable := range []manager.Runnable{watcher, server} {
		if err := made.Add(runnable); err != nil {
			return nil, fmt.Errorf("add to the manager: %w", err)
		}
	}
	return made, nil
}

// reader of what proxies count: the controller, or nobody.
func (o *meshOptions) reader(domain spiffeid.TrustDomain) (spiffeid.ID, error) {
	if !o.liveReports {
		return spiffeid.ID{}, nil
	}
	reader, err := identity.ForServiceAccount(domain, o.namespace, controllerName)
	if err != nil {
		return reader, fmt.Errorf("name the controller: %w", err)
	}
	return reader, nil
}

// currentInjection has the anchors of this moment.
func (p *meshParts) currentInjection() inject.Config {
	config := p.injection
	config.TrustAnchors = string(p.issuer.Anchors())
	return config
}
