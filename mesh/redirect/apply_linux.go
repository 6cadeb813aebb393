// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// loopbackIndex is the kernel's LOOPBACK_IFINDEX: lo is the first interface of every namespace.
const loopbackIndex = 1

// tcpDestinationPort is where in a TCP header the destination port lies.
const (
	tcpDestinationPortOffset = 2
	tcpDestinationPortLength = 2
)

// registerOne is the kernel's NFT_REG_1, through which the expressions of a rule pass values.
const registerOne = 1

// Apply puts the rules in force in the network namespace of the calling thread. What an earlier
// call left is replaced in the same transaction: at no moment are there no rules, half the rules or
// two sets of them. It returns the table families used.
//
// One inet table serves IPv4 and IPv6. Kernels that were built without IPv6 have no inet family,
// and those before 5.2 cannot translate addresses in it; there, one table per family is used.
func Apply(config Config) ([]string, error) {
	chains := Rules(config)
	var failures []error
	for _, families := range [][]nftables.TableFamily{
		{nftables.TableFamilyINet},
		{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6},
		{nftables.TableFamilyIPv4},
	} {
		names, err := applyFamilies(families, chains)
		if err == nil {
			return names, nil
		}
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("write nftables rules: %w (the capability NET_ADMIN is needed)", err)
		}
		failures = append(failures, fmt.Errorf("%v: %w", names, err))
	}
	return nil, fmt.Errorf("write nftables rules (does the kernel have nf_tables and nft_redir?): %w", errors.Join(failures...))
}

func applyFamilies(families []nftables.TableFamily, chains []Chain) ([]string, error) {
	var names []string
	connection, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	for _, family := range families {
		table := &nftables.Table{Family: family, Name: TableName}
		// Creating before deleting makes the deletion succeed whether the table was there or not.
		connection.AddTable(table)
		connection.DelTable(table)
		connection.AddTable(table)
		for _, chain := range chains {
			addChain(connection, table, chain)
		}
		names = append(names, familyName(family))
	}
	if err := connection.Flush(); err != nil {
		return names, fmt.Errorf("commit transaction: %w", err)
	}
	return names, nil
}

func addChain(connection *nftables.Conn, table *nftables.Table, chain Chain) {
	hook := nftables.ChainHookPrerouting
	if chain.Hook == HookOutput {
		hook = nftables.ChainHookOutput
	}
	accept := nftables.ChainPolicyAccept
	added := connection.AddChain(&nftables.Chain{
		Name:     chain.Name,
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  hook,
		Priority: nftables.ChainPriorityNATDest,
		Policy:   &accept,
	})
	for _, rule := range chain.Rules {
		connection.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: rule.expressions(chain.Hook)})
	}
}

func (r Rule) expressions(hook Hook) []expr.Any {
	return slices.Concat(r.match(hook), r.verdict())
}

func (r Rule) match(hook Hook) []expr.Any {
	switch {
	case r.Loopback && hook == HookPrerouting:
		return metaEquals(expr.MetaKeyIIF, binaryutil.NativeEndian.PutUint32(loopbackIndex))
	case r.Loopback:
		return metaEquals(expr.MetaKeyOIF, binaryutil.NativeEndian.PutUint32(loopbackIndex))
	case r.UID != 0:
		return metaEquals(expr.MetaKeySKUID, binaryutil.NativeEndian.PutUint32(r.UID))
	case r.Ports != PortRange{}:
		return slices.Concat(tcp(), destinationPort(r.Ports))
	default:
		return tcp()
	}
}

func (r Rule) verdict() []expr.Any {
	if r.RedirectTo == 0 {
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
	return []expr.Any{
		&expr.Immediate{Register: registerOne, Data: binaryutil.BigEndian.PutUint16(r.RedirectTo)},
		&expr.Redir{RegisterProtoMin: registerOne, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

func tcp() []expr.Any {
	return metaEquals(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP})
}

func metaEquals(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: registerOne},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerOne, Data: value},
	}
}

func destinationPort(ports PortRange) []expr.Any {
	load := &expr.Payload{
		DestRegister: registerOne,
		Base:         expr.PayloadBaseTransportHeader,
		Offset:       tcpDestinationPortOffset,
		Len:          tcpDestinationPortLength,
	}
	first, last := binaryutil.BigEndian.PutUint16(ports.First), binaryutil.BigEndian.PutUint16(ports.Last)
	if ports.First == ports.Last {
		return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: registerOne, Data: first}}
	}
	return []expr.Any{
		load,
		&expr.Cmp{Op: expr.CmpOpGte, Register: registerOne, Data: first},
		&expr.Cmp{Op: expr.CmpOpLte, Register: registerOne, Data: last},
	}
}

func familyName(family nftables.TableFamily) string {
	switch family {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv6:
		return "ip6"
	default:
		return "ip"
	}
}
