// SPDX-License-Identifier: Apache-2.0

// Command sluice-redirect runs as an init container of a meshed pod: it puts the redirect in force
// and ends. It needs the capability NET_ADMIN and nothing else; it reads no file and no API.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/sluice-mesh/sluice/mesh/redirect"
)

func main() {
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	err := run(os.Args[1:], logger)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		logger.Error("redirect failed", "error", err.Error())
		os.Exit(1)
	}
}

func run(arguments []string, logger *slog.Logger) error {
	config, err := parse(arguments)
	if err != nil {
		return err
	}
	families, err := redirect.Apply(config)
	if err != nil {
		return err
	}
	logger.Info("redirect in force",
		"families", families,
		"outboundPort", config.OutboundPort,
		"inboundPort", config.InboundPort,
		"proxyUID", config.ProxyUID,
		"skipInboundPorts", redirect.FormatPorts(config.SkipInboundPorts),
		"skipOutboundPorts", redirect.FormatPorts(config.SkipOutboundPorts),
	)
	return nil
}

func parse(arguments []string) (redirect.Config, error) {
	config := redirect.DefaultConfig()
	flags := flag.NewFlagSet("sluice-redirect", flag.ContinueOnError)
	uid := flags.Uint("proxy-uid", uint(config.ProxyUID), "user of the proxy, whose connections are left alone")
	outbound := flags.Uint("outbound-port", uint(config.OutboundPort), "port that takes what the pod sends")
	inbound := flags.Uint("inbound-port", uint(config.InboundPort), "port that takes what comes to the pod")
	skipInbound := flags.String("skip-inbound-ports", "", "ports of the pod that are reached directly, such as 25,8000-8080")
	skipOutbound := flags.String("skip-outbound-ports", "", "ports of others that are dialled directly, such as 25,8000-8080")
	if err := flags.Parse(arguments); err != nil {
		return redirect.Config{}, fmt.Errorf("read flags: %w", err)
	}
	if flags.NArg() > 0 {
		return redirect.Config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if config.SkipInboundPorts, err = redirect.ParsePorts(*skipInbound); err != nil {
		return redirect.Config{}, fmt.Errorf("--skip-inbound-ports: %w", err)
	}
	if config.SkipOutboundPorts, err = redirect.ParsePorts(*skipOutbound); err != nil {
		return redirect.Config{}, fmt.Errorf("--skip-outbound-ports: %w", err)
	}
	if *uid == 0 || *uid > 1<<31 {
		return redirect.Config{}, fmt.Errorf("--proxy-uid %d: must be a user other than root", *uid)
	}
	for name, port := range map[string]uint{"outbound-port": *outbound, "inbound-port": *inbound} {
		if port == 0 || port > 65535 {
			return redirect.Config{}, fmt.Errorf("--%s %d: write a port from 1 to 65535", name, port)
		}
	}
	config.ProxyUID = uint32(*uid)
	config.OutboundPort, config.InboundPort = uint16(*outbound), uint16(*inbound)
	return config, nil
}
