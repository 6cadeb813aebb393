// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const webhookPort = 9443

// managerOptions are what the two long-running commands have in common.
type managerOptions struct {
	kubeconfig
	namespace      string
	metricsAddress string
	probeAddress   string
	logLevel       string
	leaderElection bool
}

func (o *managerOptions) bind(flags *pflag.FlagSet) {
	o.kubeconfig.bind(flags)
	namespace := os.Getenv("SLUICE_NAMESPACE")
	if namespace == "" {
		namespace = defaultNamespace
	}
	flags.StringVarP(&o.namespace, "namespace", "n", namespace, "namespace of the control plane; default is SLUICE_NAMESPACE")
	flags.StringVar(&o.metricsAddress, "metrics-address", ":8080", "where metrics are served; 0 for nowhere")
	flags.StringVar(&o.probeAddress, "probe-address", ":9440", "where /healthz and /readyz are served; 0 for nowhere")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info or error")
	flags.BoolVar(&o.leaderElection, "leader-elect", true, "act only while holding the lease; needed with more than one replica")
}

// logger writes JSON; controller-runtime and client-go write through it as well.
func (o *managerOptions) logger(out io.Writer) (logr.Logger, error) {
	var options zap.Options
	flags := flag.NewFlagSet("log", flag.ContinueOnError)
	options.BindFlags(flags)
	if err := flags.Set("zap-log-level", o.logLevel); err != nil {
		return logr.Logger{}, fmt.Errorf("--log-level %s: write debug, info or error", o.logLevel)
	}
	logger := zap.New(zap.WriteTo(out), zap.UseFlagOptions(&options))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	return logger, nil
}

// role is what a manager is made for.
type role struct {
	// name is the program's, and the lease's.
	name   string
	config *rest.Config
	logger logr.Logger
	// certificate serves the webhooks; nil when there are none.
	certificate certificateFunc
	// cached says what of which kinds is kept in memory.
	cached map[client.Object]cache.ByObject
}

func (o *managerOptions) newManager(role role) (manager.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	options := manager.Options{
		Scheme:                  scheme,
		Logger:                  role.logger,
		Cache:                   cache.Options{ByObject: role.cached},
		Metrics:                 metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:  o.probeAddress,
		LeaderElection:          o.leaderElection,
		LeaderElectionID:        role.name,
		LeaderElectionNamespace: o.namespace,
		// Given back at the end, so that an upgrade does not wait for a lease to run out. Nothing acts
		// after the manager has stopped: the process ends.
		LeaderElectionReleaseOnCancel: true,
	}
	if role.certificate != nil {
		options.WebhookServer = webhook.NewServer(webhook.Options{
			Port:    webhookPort,
			TLSOpts: []func(*tls.Config){func(tlsConfig *tls.Config) { tlsConfig.GetCertificate = role.certificate }},
		})
	}
	made, err := manager.New(role.config, options)
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	if err := made.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("add the health check: %w", err)
	}
	if err := made.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("add the readiness check: %w", err)
	}
	return made, nil
}

// certificateFunc gives the certificate to serve.
type certificateFunc = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Kubernetes' kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Sluice's kinds: %w", err)
	}
	return scheme, nil
}

// shutdownTimeout bounds how long open calls hold up the end of the process.
const shutdownTimeout = 5 * time.Second
