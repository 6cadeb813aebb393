// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ipv6OriginalDestination is IP6T_SO_ORIGINAL_DST, which x/sys does not name.
const ipv6OriginalDestination = 80

var errNotTCP = errors.New("not a TCP connection")

// OriginalDestination asks the kernel where a redirected connection was going.
func OriginalDestination(conn net.Conn) (netip.AddrPort, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, errNotTCP
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("parse local address: %w", err)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reach the socket: %w", err)
	}
	var destination netip.AddrPort
	var optionError error
	err = raw.Control(func(fd uintptr) {
		// A dual-stack socket shows an IPv4 peer as a mapped address but is redirected by IPv4.
		if local.Addr().Unmap().Is4() {
			destination, optionError = originalIPv4(int(fd))
			return
		}
		destination, optionError = originalIPv6(int(fd))
	})
	if err := errors.Join(err, optionError); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", err)
	}
	return destination, nil
}

func originalIPv4(fd int) (netip.AddrPort, error) {
	// x/sys has no getsockopt for a sockaddr_in; IPv6Mreq is a buffer that is large enough.
	buffer, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	socketAddress := buffer.Multiaddr
	port := binary.BigEndian.Uint16(socketAddress[2:4])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(socketAddress[4:8])), port), nil
}

func originalIPv6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, ipv6OriginalDestination)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The kernel writes the port in network order into a field of native order.
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], info.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}
