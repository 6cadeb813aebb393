// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy"
)

// Defaults for what the injector may leave out.
const (
	defaultTrustDomain  = "cluster.local"
	defaultControlPlane = "sluice-mesh.sluice-system.svc:8443"
	defaultTokenFile    = "/var/run/secrets/sluice.dev/token"
	defaultProcessors   = 2
)

// settings are what the environment says.
type settings struct {
	namespace, pod, serviceAccount string
	podIP                          netip.Addr
	trustDomain                    string
	anchors                        string
	controlPlane, controlPlaneID   string
	tokenFile                      string
	stateDirectory                 string
	processors                     int
	accessLog                      mesh.AccessLog
	tracing                        mesh.Tracing
	logLevel                       slog.Level
}

func readSettings(getenv func(string) string) (settings, error) {
	orDefault := func(name, value string) string {
		if set := getenv(name); set != "" {
			return set
		}
		return value
	}
	read := settings{
		namespace:      getenv("SLUICE_POD_NAMESPACE"),
		pod:            getenv("SLUICE_POD_NAME"),
		serviceAccount: orDefault("SLUICE_SERVICE_ACCOUNT", "default"),
		trustDomain:    orDefault("SLUICE_TRUST_DOMAIN", defaultTrustDomain),
		anchors:        getenv("SLUICE_TRUST_ANCHORS"),
		controlPlane:   orDefault("SLUICE_CONTROL_PLANE", defaultControlPlane),
		controlPlaneID: getenv("SLUICE_CONTROL_PLANE_IDENTITY"),
		stateDirectory: getenv("SLUICE_STATE_DIRECTORY"),
		tokenFile:      orDefault("SLUICE_TOKEN_FILE", defaultTokenFile),
	}
	if read.controlPlaneID == "" {
		read.controlPlaneID = "spiffe://" + read.trustDomain + "/ns/sluice-system/sa/sluice-mesh"
	}
	var problems []error
	var err error
	if read.podIP, err = netip.ParseAddr(getenv("SLUICE_POD_IP")); err != nil {
		problems = append(problems, fmt.Errorf("SLUICE_POD_IP: %w", err))
	}
	read.processors, err = strconv.Atoi(orDefault("SLUICE_GOMAXPROCS", strconv.Itoa(defaultProcessors)))
	if err != nil || read.processors < 1 {
		problems = append(problems, fmt.Errorf("SLUICE_GOMAXPROCS: %q is not a number of processors", getenv("SLUICE_GOMAXPROCS")))
	}
	if written := getenv("SLUICE_ACCESS_LOG"); written != "" {
		if read.accessLog, err = mesh.ParseAccessLog(written); err != nil {
			problems = append(problems, fmt.Errorf("SLUICE_ACCESS_LOG: %w", err))
		}
	}
	if written := getenv("SLUICE_TRACING"); written != "" {
		if read.tracing, err = mesh.ParseTracing(written); err != nil {
			problems = append(problems, fmt.Errorf("SLUICE_TRACING: %w", err))
		}
	}
	if err := read.logLevel.UnmarshalText([]byte(orDefault("SLUICE_LOG_LEVEL", "info"))); err != nil {
		problems = append(problems, fmt.Errorf("SLUICE_LOG_LEVEL: %w", err))
	}
	return read, errors.Join(problems...)
}

// useControlPlane makes the proxy one of a mesh.
func useControlPlane(options *proxy.Options, read settings) (*identity.Client, error) {
	trustDomain, err := spiffeid.TrustDomainFromString(read.trustDomain)
	if err != nil {
		return nil, fmt.Errorf("SLUICE_TRUST_DOMAIN: %w", err)
	}
	if options.ID, err = identity.ForServiceAccount(trustDomain, read.namespace, read.serviceAccount); err != nil {
		return nil, fmt.Errorf("SLUICE_POD_NAMESPACE, SLUICE_SERVICE_ACCOUNT: %w", err)
	}
	controlPlaneID, err := spiffeid.FromString(read.controlPlaneID)
	if err != nil {
		return nil, fmt.Errorf("SLUICE_CONTROL_PLANE_IDENTITY: %w", err)
	}
	anchors, err := identity.ParseAnchors([]byte(read.anchors))
	if err != nil {
		return nil, fmt.Errorf("SLUICE_TRUST_ANCHORS: %w", err)
	}
	client, err := identity.NewClient(identity.ClientOptions{
		ID:             options.ID,
		ControlPlane:   read.controlPlane,
		ControlPlaneID: controlPlaneID,
		Anchors:        anchors,
		TokenFile:      read.tokenFile,
		StateFile:      stateFile(read.stateDirectory, "identity"),
		Logger:         options.Log,
	})
	if err != nil {
		return nil, err
	}
	options.Certificates, options.Bundles = client, client
	options.StateFile = stateFile(read.stateDirectory, "configuration")
	options.Discovery = &proxy.DiscoveryOptions{
		ControlPlane:   read.controlPlane,
		ControlPlaneID: controlPlaneID,
		Namespace:      read.namespace,
		Pod:            read.pod,
		Version:        options.Version,
		Ready:          client.Ready(),
	}
	return client, nil
}

// stateFile is empty without a directory: then nothing is kept.
func stateFile(directory, name string) string {
	if directory == "" {
		return ""
	}
	return filepath.Join(directory, name)
}

// useSnapshot makes the proxy one that knows no more than a file says and has no identity.
func useSnapshot(options *proxy.Options, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	options.Snapshot = &mesh.Snapshot{}
	if err := json.Unmarshal(text, options.Snapshot); err != nil {
		return fmt.Errorf("parse the snapshot %s: %w", file, err)
	}
	return nil
}
