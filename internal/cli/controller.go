// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/internal/webhooktrust"
	"github.com/sluice-mesh/sluice/mesh/ca"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

const (
	controllerName = "sluice-controller"
	// holdConfiguration is the webhook configuration of config/webhook/hold-webhook.yaml.
	holdConfiguration = "sluice-hold"
	// approvalConfiguration is that of config/webhook/approval-webhook.yaml.
	approvalConfiguration = "sluice-approval"
	// holdSecret has the root of the hold webhook's certificate. It is not that of the mesh: the
	// controller works without the mesh, and must not be able to read the mesh's key.
	holdSecret = "sluice-controller-tls"
)

type controllerOptions struct {
	managerOptions
	prometheus       prometheusOptions
	allowed          []string
	live             liveOptions
	interval         time.Duration
	hold             string
	allowedAddresses []string
}

func newController() *cobra.Command {
	options := &controllerOptions{}
	command := &cobra.Command{
		Use:   "controller",
		Short: "Run the rollout controller",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return options.run(command.Context(), command.ErrOrStderr())
		},
	}
	flags := command.Flags()
	options.bind(flags)
	options.prometheus.bind(flags, "http://prometheus.monitoring.svc:9090")
	flags.StringArrayVar(&options.allowed, "prometheus-allow", nil, "address that a Canary may name in spec.gate.prometheus, as JSON: address and, if it wants them, credentials (a directory), headers, tokenURL and tokenScopes; may be repeated")
	options.live.bind(flags)
	flags.DurationVar(&options.interval, "interval", 5*time.Second, "how often a running canary is looked at, beside whenever its metrics have changed")
	flags.StringVar(&options.hold, "hold", "policy", "what holds changed Deployments: policy (in the API server) or webhook (served here)")
	flags.StringSliceVar(&options.allowedAddresses, "allow-hook-addresses", nil, "CIDRs that webhooks and Notifiers may call although they are loopback, link-local or the API server's")
	return command
}

// rules say where webhooks may lead.
func (o *controllerOptions) rules() (hook.Rules, error) {
	var rules hook.Rules
	for _, text := range o.allowedAddresses {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return rules, fmt.Errorf("--allow-hook-addresses %s: write a CIDR such as 10.0.0.0/8: %w", text, err)
		}
		rules.Allowed = append(rules.Allowed, prefix)
	}
	if address, err := netip.ParseAddr(os.Getenv("KUBERNETES_SERVICE_HOST")); err == nil {
		rules.Refused = append(rules.Refused, address)
	}
	return rules, nil
}

func (o *controllerOptions) check() error {
	if o.hold != "policy" && o.hold != "webhook" {
		return fmt.Errorf("--hold %s: write policy or webhook", o.hold)
	}
	return nil
}

func (o *controllerOptions) run(ctx context.Context, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	news, alarms := make(chan event.GenericEvent, 1024), make(chan event.GenericEvent, 1024)
	told := tell(news, alarms)
	metered, closing, err := o.feeds(ctx, told)
	if err != nil {
		return err
	}
	defer closing()
	rules, err := o.rules()
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
	made, err := o.manager(ctx, config, logger)
	if err != nil {
		return err
	}
	seal, err := o.seal(ctx, config)
	if err != nil {
		return err
	}
	counted, err := rollout.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	if err := metered.add(made); err != nil {
		return err
	}
	reports, err := o.live.feed(config, made, o.namespace, told)
	if err != nil {
		return err
	}
	settings := o.settings(rules)
	settings.Source, settings.News, settings.Alarms = metered.of, news, alarms
	settings.Seal, settings.Metrics = seal, counted
	o.live.use(reports, &settings)
	if err := rollout.Register(made, settings); err != nil {
		return err
	}
	if err := made.Start(ctx); err != nil {
		return fmt.Errorf("run the controller: %w", err)
	}
	return nil
}

// settings are those that flags give.
func (o *controllerOptions) settings(rules hook.Rules) rollout.Options {
	sender := &hook.Sender{Rules: rules, Now: time.Now}
	return rollout.Options{
		Interval:      o.interval,
		HoldWebhook:   o.hold == "webhook",
		Hooks:         hook.NewRunner(sender, clock.RealClock{}),
		Notifications: hook.NewRunner(sender, clock.RealClock{}),
	}
}

// feeds are opened before anything else: what flags get wrong is said at once.
func (o *controllerOptions) feeds(ctx context.Context, news analysis.News) (*feeds, func(), error) {
	allowed, err := parseAllowed(o.allowed)
	if err != nil {
		return nil, nil, err
	}
	return newFeeds(ctx, o.prometheus, allowed, news)
}

// tell of a workload's new metrics. When too much is told at once, the rest is seen at the interval.
func tell(news, alarms chan<- event.GenericEvent) analysis.News {
	return func(namespace, workload string, alarm bool) {
		to := news
		if alarm {
			to = alarms
		}
		named := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: workload}}
		select {
		case to <- event.GenericEvent{Object: named}:
		default:
		}
	}
}

// seal loads what the records of runs are signed with. Its client reads past any cache.
func (o *controllerOptions) seal(ctx context.Context, config *rest.Config) (*rollout.Seal, error) {
	writer, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	seal, err := rollout.LoadSeal(ctx, writer, o.namespace)
	if err != nil {
		return nil, fmt.Errorf("load the key of the records: %w", err)
	}
	return seal, nil
}

// manager makes the manager and, when the hold is a webhook, what the API server needs to call it.
func (o *controllerOptions) manager(ctx context.Context, config *rest.Config, logger logr.Logger) (manager.Manager, error) {
	if o.hold != "webhook" {
		return o.newManager(role{name: controllerName, config: config, logger: logger})
	}
	writer, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	domain, err := spiffeid.TrustDomainFromString("webhook." + controllerName)
	if err != nil {
		return nil, fmt.Errorf("name the webhook's trust domain: %w", err)
	}
	issuer, err := ca.NewIssuer(ctx, ca.IssuerOptions{
		Client: writer, Namespace: o.namespace, SecretName: holdSecret, TrustDomain: domain, Logger: logger.WithName("certificate"),
	})
	if err != nil {
		return nil, fmt.Errorf("make the webhook's certificate authority: %w", err)
	}
	serving, err := issuer.Serving(o.namespace, controllerName, serviceNames(controllerName, o.namespace)...)
	if err != nil {
		return nil, fmt.Errorf("make the webhook's certificate: %w", err)
	}
	made, err := o.newManager(role{name: controllerName, config: config, logger: logger, certificate: serving.GetCertificate})
	if err != nil {
		return nil, err
	}
	keeper := func(configuration string) *webhooktrust.Keeper {
		return webhooktrust.New(webhooktrust.Options{
			Client: writer, Configuration: configuration, Manager: controllerName,
			Anchors: issuer.Anchors, Logger: logger.WithName("webhook"),
		})
	}
	return made, addTrust(made, issuer, keeper(holdConfiguration), keeper(approvalConfiguration))
}
