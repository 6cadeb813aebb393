// SPDX-License-Identifier: Apache-2.0

// Package meshpb is the wire form of the mesh's vocabulary: generated from mesh.proto, plus the
// conversion between it and the plain structs of package mesh, which is all that other packages
// keep.
//
// It must not decide anything.
package meshpb

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-mesh/sluice/mesh"
)

// FromDestination returns the wire form of a destination.
func FromDestination(destination *mesh.Destination) *Destination {
	if destination == nil {
		return nil
	}
	return &Destination{
		Address:          destination.Address,
		Unknown:          destination.Unknown,
		PodAddress:       destination.PodAddress,
		ServiceNamespace: destination.Service.Namespace,
		ServiceName:      destination.Service.Name,
		ServicePort:      uint32(destination.Service.Port),
		Protocol:         fromProtocol(destination.Protocol),
		Http2:            destination.HTTP2,
		Endpoints:        convert(destination.Endpoints, fromEndpoint),
		Splits:           convert(destination.Splits, fromSplit),
		Timeouts:         fromTimeouts(destination.Timeouts),

		MaxParallelRequests: destination.MaxParallelRequests,
		Retries:             fromRetries(destination.Retries),
		OutlierEjection:     fromEjection(destination.OutlierEjection),
	}
}

// ToMesh returns the plain form of a destination.
func (x *Destination) ToMesh() *mesh.Destination {
	if x == nil {
		return nil
	}
	return &mesh.Destination{
		Address:    x.GetAddress(),
		Unknown:    x.GetUnknown(),
		PodAddress: x.GetPodAddress(),
		Service: mesh.Service{
			Namespace: x.GetServiceNamespace(),
			Name:      x.GetServiceName(),
			Port:      toPort(x.GetServicePort()),
		},
		Protocol:  toProtocol(x.GetProtocol()),
		HTTP2:     x.GetHttp2(),
		Endpoints: convert(x.GetEndpoints(), toEndpoint),
		Splits:    convert(x.GetSplits(), toSplit),
		Timeouts:  toTimeouts(x.GetTimeouts()),

		MaxParallelRequests: x.GetMaxParallelRequests(),
		Retries:             toRetries(x.GetRetries()),
		OutlierEjection:     toEjection(x.GetOutlierEjection()),
	}
}

func fromTimeouts(timeouts mesh.Timeouts) *Timeouts {
	if timeouts == (mesh.Timeouts{}) {
		return nil
	}
	return &Timeouts{Request: timeouts.Request, Try: timeouts.Try, Idle: timeouts.Idle}
}

func toTimeouts(message *Timeouts) mesh.Timeouts {
	return mesh.Timeouts{Request: message.GetRequest(), Try: message.GetTry(), Idle: message.GetIdle()}
}

func fromRetries(retries *mesh.Retries) *Retries {
	if retries == nil {
		return nil
	}
	return &Retries{
		Attempts: retries.Attempts, Codes: retries.Codes, Methods: retries.Methods, GrpcCodes: retries.GRPCCodes,
		Percent: retries.Percent, IntervalMilliseconds: retries.Interval,
		MinCount: retries.MinCount, MinIntervalMilliseconds: retries.MinInterval,
	}
}

func toRetries(message *Retries) *mesh.Retries {
	if message == nil {
		return nil
	}
	return &mesh.Retries{
		Attempts: message.GetAttempts(), Codes: message.GetCodes(), Methods: message.GetMethods(), GRPCCodes: message.GetGrpcCodes(),
		Percent: message.GetPercent(), Interval: message.GetIntervalMilliseconds(),
		MinCount: message.GetMinCount(), MinInterval: message.GetMinIntervalMilliseconds(),
	}
}

func fromEjection(ejection *mesh.OutlierEjection) *OutlierEjection {
	if ejection == nil {
		return nil
	}
	return &OutlierEjection{
		ConsecutiveFailures: ejection.ConsecutiveFailures, IntervalMilliseconds: ejection.Interval,
		MinRequests: ejection.MinRequests, MinEndpoints: ejection.MinEndpoints,
		BaseMilliseconds: ejection.BaseTime, MaxMilliseconds: ejection.MaxTime, MaxPercent: ejection.MaxPercent,
	}
}

func toEjection(message *OutlierEjection) *mesh.OutlierEjection {
	if message == nil {
		return nil
	}
	return &mesh.OutlierEjection{
		ConsecutiveFailures: message.GetConsecutiveFailures(), Interval: max(message.GetIntervalMilliseconds(), 1),
		MinRequests: message.GetMinRequests(), MinEndpoints: message.GetMinEndpoints(),
		BaseTime: message.GetBaseMilliseconds(), MaxTime: message.GetMaxMilliseconds(), MaxPercent: message.GetMaxPercent(),
	}
}

// FromInbound returns the wire form of what a proxy needs to serve its own pod.
func FromInbound(inbound *mesh.Inbound) *Inbound {
	if inbound == nil {
		return nil
	}
	message := &Inbound{
		Workload:        inbound.Workload,
		PodTemplateHash: inbound.PodTemplateHash,
		Peers:           convert(inbound.Peers, fromEndpoint),
		Access:          fromAccess(inbound.Access),
		Node:            inbound.Location.Node,
		Zone:            inbound.Location.Zone,
		Http2Ports:      convert(inbound.HTTP2Ports, func(port uint16) uint32 { return uint32(port) }),
		Overloads:       convert(inbound.Overloads, fromOverload),
	}
	if inbound.Split != nil {
		message.Split = fromSplit(*inbound.Split)
	}
	if len(inbound.Protocols) > 0 {
		message.Protocols = make(map[uint32]Protocol, len(inbound.Protocols))
		for port, protocol := range inbound.Protocols {
			message.Protocols[uint32(port)] = fromProtocol(protocol)
		}
	}
	return message
}

// ToMesh returns the plain form of what a proxy needs to serve its own pod.
func (x *Inbound) ToMesh() *mesh.Inbound {
	if x == nil {
		return nil
	}
	inbound := &mesh.Inbound{
		Workload:        x.GetWorkload(),
		PodTemplateHash: x.GetPodTemplateHash(),
		Peers:           convert(x.GetPeers(), toEndpoint),
		Access:          toAccess(x.GetAccess()),
		Location:        mesh.Location{Node: x.GetNode(), Zone: x.GetZone()},
		HTTP2Ports:      convert(x.GetHttp2Ports(), toPort),
		Overloads:       convert(x.GetOverloads(), toOverload),
	}
	if x.GetSplit() != nil {
		split := toSplit(x.GetSplit())
		inbound.Split = &split
	}
	for _, port := range slices.Sorted(maps.Keys(x.GetProtocols())) {
		if toPort(port) == 0 {
			continue
		}
		if inbound.Protocols == nil {
			inbound.Protocols = make(map[uint16]mesh.Protocol, len(x.GetProtocols()))
		}
		inbound.Protocols[toPort(port)] = toProtocol(x.GetProtocols()[port])
	}
	return inbound
}

func fromEndpoint(endpoint mesh.Endpoint) *Endpoint {
	return &Endpoint{
		Address:         endpoint.Address,
		Identity:        endpoint.Identity,
		Namespace:       endpoint.Namespace,
		Pod:             endpoint.Pod,
		Workload:        endpoint.Workload,
		PodTemplateHash: endpoint.PodTemplateHash,
		Ready:           endpoint.Ready,
		HintedNodes:     toNames(endpoint.Hints.Nodes),
		HintedZones:     toNames(endpoint.Hints.Zones),
	}
}

func toEndpoint(message *Endpoint) mesh.Endpoint {
	return mesh.Endpoint{
		Address:         message.GetAddress(),
		Identity:        message.GetIdentity(),
		Namespace:       message.GetNamespace(),
		Pod:             message.GetPod(),
		Workload:        message.GetWorkload(),
		PodTemplateHash: message.GetPodTemplateHash(),
		Ready:           message.GetReady(),
		Hints: mesh.Hints{
			Nodes: strings.Join(message.GetHintedNodes(), ","),
			Zones: strings.Join(message.GetHintedZones(), ","),
		},
	}
}

func toNames(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func fromSplit(split mesh.Split) *Split {
	return &Split{
		Matches:    convert(split.Matches, fromMatch),
		Mirror:     fromMirror(split.Mirror),
		Stickiness: fromStickiness(split.Stickiness),
		Workload:   split.Workload,
		Generation: split.Generation,
		Revisions: convert(split.Revisions, func(revision mesh.RevisionWeight) *RevisionWeight {
			return &RevisionWeight{
				Name:            revision.Name,
				PodTemplateHash: revision.PodTemplateHash,
				Weight:          revision.Weight,
			}
		}),
	}
}

func toSplit(message *Split) mesh.Split {
	return mesh.Split{
		Matches:    convert(message.GetMatches(), toMatch),
		Mirror:     toMirror(message.GetMirror()),
		Stickiness: toStickiness(message.GetStickiness()),
		Workload:   message.GetWorkload(),
		Generation: message.GetGeneration(),
		Revisions: convert(message.GetRevisions(), func(revision *RevisionWeight) mesh.RevisionWeight {
			return mesh.RevisionWeight{
				Name:            revision.GetName(),
				PodTemplateHash: revision.GetPodTemplateHash(),
				Weight:          revision.GetWeight(),
			}
		}),
	}
}

func fromProtocol(protocol mesh.Protocol) Protocol {
	switch protocol {
	case mesh.ProtocolHTTP1:
		return Protocol_PROTOCOL_HTTP1
	case mesh.ProtocolTCP:
		return Protocol_PROTOCOL_TCP
	default:
		return Protocol_PROTOCOL_DETECT
	}
}

// toProtocol reads a protocol that this version does not know as detect: a newer control plane may
// name more than an older proxy speaks, and looking at the bytes is right for all of them.
func toProtocol(protocol Protocol) mesh.Protocol {
	switch protocol {
	case Protocol_PROTOCOL_HTTP1:
		return mesh.ProtocolHTTP1
	case Protocol_PROTOCOL_TCP:
		return mesh.ProtocolTCP
	default:
		return mesh.ProtocolDetect
	}
}

// toPort returns 0 for what is not a port: protobuf has no 16-bit integer.
func toPort(port uint32) uint16 {
	if port > 65535 {
		return 0
	}
	return uint16(port)
}

func convert[From, To any](list []From, one func(From) To) []To {
	if len(list) == 0 {
		return nil
	}
	converted := make([]To, 0, len(list))
	for _, item := range list {
		converted = append(converted, one(item))
	}
	return converted
}
