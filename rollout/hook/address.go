// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Rules say which addresses may be dialled. They are applied to the address itself, after names were
// resolved, so that no name can point to where it must not.
type Rules struct {
	// Allowed are exceptions from what is refused.
	Allowed []netip.Prefix
	// Refused are addresses of the cluster that are never a webhook's, such as the API server's.
	Refused []netip.Addr
}

// credentials says whether some cloud serves its machines' credentials at an address. Most do so at a
// link-local one, which is refused anyway.
func credentials(address netip.Addr) bool {
	switch address.WithZone("").String() {
	case "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192":
		return true
	}
	return false
}

// check returns an error when an address must not be dialled.
func (r Rules) check(address netip.Addr) error {
	address = embedded(address.Unmap())
	for _, allowed := range r.Allowed {
		if allowed.Contains(address) {
			return nil
		}
	}
	what := ""
	switch {
	case address.IsLoopback():
		what = "loopback"
	case address.IsLinkLocalUnicast(), address.IsLinkLocalMulticast(), address.IsInterfaceLocalMulticast():
		what = "link-local"
	case address.IsMulticast():
		what = "multicast"
	case address.IsUnspecified(), address.Is4() && address.As4()[0] == 0:
		what = "not an address of anybody"
	case credentials(address):
		what = "the cloud's metadata server"
	}
	for _, refused := range r.Refused {
		if refused.Unmap() == address {
			what = "the API server"
		}
	}
	if what == "" {
		return nil
	}
	return &RefusedError{Why: fmt.Sprintf("%s is %s; the controller's flag --allow-hook-addresses makes exceptions", address, what)}
}

// embedded is the IPv4 address inside one of NAT64's well-known prefix.
func embedded(address netip.Addr) netip.Addr {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(address) {
		return address
	}
	raw := address.As16()
	return netip.AddrFrom4([4]byte(raw[12:]))
}

// control is called with each address before it is dialled.
func (r Rules) control(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return &RefusedError{Why: err.Error()}
	}
	parsed, err := netip.ParseAddr(host)
	if err != nil {
		return &RefusedError{Why: err.Error()}
	}
	return r.check(parsed)
}

// RefusedError is a request that was never sent, for a reason that somebody must mend.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }
