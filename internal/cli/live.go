// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	grpc "connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/live"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/inject"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/rollout"
)

// What is done with what proxies report twice a second.
const (
	liveOff    = "off"
	liveBeside = "beside"
	liveAlone  = "alone"

	// anchorsEvery is how soon a mesh is found that is installed later.
	anchorsEvery = 5 * time.Second
	// liveBytes is some ten thousand proxies' tallies.
	liveBytes = 16 << 20
)

// liveOptions say where proxies' reports are read.
type liveOptions struct {
	mode         string
	controlPlane string
	trustDomain  string
	tokenFile    string
}

func (o *liveOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.mode, "live", liveOff, "what proxies report twice a second: beside (it takes bad canaries back, Prometheus lets good ones go on), alone (without Prometheus) or off")
	flags.StringVar(&o.controlPlane, "live-control-plane", "", "host:port of the mesh's control plane; default is its Service")
	flags.StringVar(&o.trustDomain, "live-trust-domain", "cluster.local", "the mesh's trust domain")
	flags.StringVar(&o.tokenFile, "live-token", "/var/run/secrets/sluice.dev/token", "service-account token for the mesh's certificate authority")
}

// feed of what the mesh reports, which runs with a manager; nil when nothing is to be read.
func (o *liveOptions) feed(config *rest.Config, to manager.Manager, namespace string, news analysis.News) (*live.Feed, error) {
	reader, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	link, err := o.link(reader, namespace, to.GetLogger())
	if err != nil || link == nil {
		return nil, err
	}
	feed := live.NewFeed(link.read, live.SystemClock(), news)
	for _, runnable := range []manager.Runnable{link, feed} {
		if err := to.Add(runnable); err != nil {
			return nil, fmt.Errorf("add the reader of live reports: %w", err)
		}
	}
	return feed, nil
}

// use the reports as the mode says.
func (o *liveOptions) use(reports *live.Feed, settings *rollout.Options) {
	switch o.mode {
	case liveAlone:
		settings.Source = func(canary *v1alpha1.Canary) (analysis.Source, error) { return aloneFor(canary, reports) }
	case liveBeside:
		settings.Live = reports
	}
}

// aloneFor is the source of a Canary where there is no Prometheus.
func aloneFor(canary *v1alpha1.Canary, reports analysis.Source) (analysis.Source, error) {
	if canary.Spec.Gate.Prometheus != nil {
		return nil, errors.New("spec.gate.prometheus: this installation judges by live reports alone; leave it out")
	}
	return reports, nil
}

// link to the mesh's control plane; nil when nothing is to be read there.
func (o *liveOptions) link(reader client.Reader, namespace string, logger logr.Logger) (*liveLink, error) {
	switch o.mode {
	case liveOff:
		return nil, nil
	case liveBeside, liveAlone:
	default:
		return nil, fmt.Errorf("--live %s: write %s, %s or %s", o.mode, liveBeside, liveAlone, liveOff)
	}
	domain, err := spiffeid.TrustDomainFromString(o.trustDomain)
	if err != nil {
		return nil, fmt.Errorf("--live-trust-domain %s: %w", o.trustDomain, err)
	}
	made := &liveLink{reader: reader, address: o.controlPlane, tokenFile: o.tokenFile, logger: logger.WithName("live")}
	if made.address == "" {
		made.address = net.JoinHostPort(meshName+"."+namespace+".svc", "8443")
	}
	if made.own, err = identity.ForServiceAccount(domain, namespace, controllerName); err != nil {
		return nil, fmt.Errorf("name the controller: %w", err)
	}
	if made.controlPlane, err = identity.ForServiceAccount(domain, namespace, meshName); err != nil {
		return nil, fmt.Errorf("name the mesh's control plane: %w", err)
	}
	return made, nil
}

// liveLink reads what proxies report from the mesh's control plane, as the controller's service account.
type liveLink struct {
	reader            client.Reader
	address           string
	own, controlPlane spiffeid.ID
	tokenFile         string
	logger            logr.Logger

	mutex sync.Mutex
	// calls is nil until the mesh is known.
	calls meshpb.LiveClient
	// last is where the last answer about the workloads ended.
	last *meshpb.ReadRequest
}

// Start finds the mesh and keeps a certificate of it until the context ends.
func (l *liveLink) Start(ctx context.Context) error {
	anchors := l.awaitAnchors(ctx)
	if anchors == nil {
		return nil
	}
	certified, err := identity.NewClient(identity.ClientOptions{
		ID: l.own, ControlPlane: l.address, ControlPlaneID: l.controlPlane, Anchors: anchors, TokenFile: l.tokenFile,
	})
	if err != nil {
		return fmt.Errorf("make the controller's identity in the mesh: %w", err)
	}
	config := identity.ClientConfig(certified, certified, l.controlPlane)
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	defer transport.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return certified.Run(ctx) })
	select {
	case <-certified.Ready():
		l.mutex.Lock()
		l.calls = meshpb.NewLiveClient(&http.Client{Transport: transport}, "https://"+l.address, grpc.WithGRPC(), grpc.WithReadMaxBytes(liveBytes))
		l.mutex.Unlock()
		l.logger.Info("reading what proxies report", "address", l.address)
	case <-ctx.Done():
	}
	return group.Wait()
}

// awaitAnchors are those that the API server trusts the mesh's injector by; nil when the context has ended.
// Whatever is wrong with them is waited out: the controller has more to do than to read reports.
func (l *liveLink) awaitAnchors(ctx context.Context) []*x509.Certificate {
	said := ""
	for {
		anchors, err := l.anchors(ctx)
		if err == nil {
			return anchors
		}
		if reason := err.Error(); reason != said && ctx.Err() == nil {
			said = reason
			l.logger.Info("waiting for a mesh", "configuration", inject.WebhookConfiguration, "reason", reason)
		}
		timer := time.NewTimer(anchorsEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (l *liveLink) anchors(ctx context.Context) ([]*x509.Certificate, error) {
	var configuration admissionregistrationv1.MutatingWebhookConfiguration
	if err := l.reader.Get(ctx, client.ObjectKey{Name: inject.WebhookConfiguration}, &configuration); err != nil {
		return nil, fmt.Errorf("read the injector's configuration: %w", err)
	}
	for _, webhook := range configuration.Webhooks {
		if bundle := webhook.ClientConfig.CABundle; len(bundle) > 0 {
			anchors, err := identity.ParseAnchors(bundle)
			if err != nil {
				return nil, fmt.Errorf("read the mesh's trust anchors: %w", err)
			}
			return anchors, nil
		}
	}
	return nil, errors.New("the mesh has not written its trust anchors yet")
}

// read what came since the last time, or all if other workloads are asked about.
func (l *liveLink) read(ctx context.Context, workloads []string) (live.Reading, error) {
	l.mutex.Lock()
	calls, request := l.calls, &meshpb.ReadRequest{Workloads: workloads}
	if l.last != nil && slices.Equal(l.last.GetWorkloads(), workloads) {
		request.After, request.Instance = l.last.GetAfter(), l.last.GetInstance()
	}
	l.mutex.Unlock()
	if calls == nil {
		return live.Reading{}, errors.New("there is no mesh yet")
	}
	response, err := calls.Read(ctx, request)
	if err != nil {
		return live.Reading{}, fmt.Errorf("ask the mesh's control plane: %s", grpc.CodeOf(err))
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.last = &meshpb.ReadRequest{Workloads: workloads, After: response.GetSerial(), Instance: response.GetInstance()}
	return readingOf(response), nil
}

// readingOf is the plain form of an answer.
func readingOf(response *meshpb.ReadResponse) live.Reading {
	reading := live.Reading{Carriers: map[string][]string{}, Shares: map[string]map[string]float64{}}
	for _, of := range response.GetTallies() {
		tally := live.Tally{
			Reporter: of.GetNamespace() + "/" + of.GetPod(), Workload: of.GetWorkload(), Hash: of.GetPodTemplateHash(),
			Session: of.GetTally().GetSession(), Sequence: of.GetTally().GetSequence(),
			Age: time.Duration(min(of.GetTally().GetAgeMilliseconds(), 1<<40)) * time.Millisecond, At: time.UnixMilli(of.GetReceivedMilliseconds()),
			Served: live.Served{Succeeded: of.GetTally().GetServed().GetSucceeded(), Failed: of.GetTally().GetServed().GetFailed()},
		}
		copy(tally.Served.Latencies[:], of.GetTally().GetServed().GetLatencies())
		for _, called := range of.GetTally().GetCalled() {
			tally.Called = append(tally.Called, live.Called{
				Workload: called.GetWorkload(), Hash: called.GetPodTemplateHash(), Answered: called.GetAnswered(), Lost: called.GetLost(),
			})
		}
		reading.Tallies = append(reading.Tallies, tally)
	}
	for _, carriers := range response.GetCarriers() {
		reading.Carriers[carriers.GetWorkload()] = carriers.GetPods()
		total, shares := 0.0, map[string]float64{}
		for _, revision := range carriers.GetRevisions() {
			total += float64(revision.GetWeight())
		}
		for _, revision := range carriers.GetRevisions() {
			shares[revision.GetPodTemplateHash()] = float64(revision.GetWeight()) / max(total, 1)
		}
		reading.Shares[carriers.GetWorkload()] = shares
	}
	return reading
}
