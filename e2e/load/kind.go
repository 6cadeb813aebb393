// SPDX-License-Identifier: Apache-2.0

package load

import "errors"

// kind of a request.
type kind int

const (
	get     kind = iota
	post         // has a body, which comes back
	stream       // its answer takes its time
	session      // of WebSocket
	call         // of gRPC
	watch        // a gRPC stream
)

// long says that the time of an answer says nothing.
func (k kind) long() bool { return k == stream || k == session || k == watch }

func (k kind) isGRPC() bool { return k == call || k == watch }

// share of the requests that are of a kind; the rest are get.
type share struct {
	kind    kind
	percent int
}

func (c Config) shares() []share {
	shares := []share{{post, c.PostPercent}, {stream, c.StreamPercent}, {session, c.SocketPercent}}
	if c.GRPCAddress != "" {
		shares = append(shares, share{call, c.CallPercent}, share{watch, c.WatchPercent})
	}
	return shares
}

func (c Config) checkShares() error {
	sum := 0
	for _, share := range append(c.shares(), share{get, c.FreshPercent}) {
		if share.percent < 0 || share.percent > 100 {
			return errors.New("fresh, post, stream, socket, call and watch are percentages from 0 to 100")
		}
		if share.kind != get {
			sum += share.percent
		}
	}
	if sum > 100 {
		return errors.New("post, stream, socket, call and watch are more than 100 percent in all")
	}
	return nil
}

// kindOf is that of a request for which a number from 0 to 99 was drawn.
func (c Config) kindOf(drawn int) kind {
	for _, share := range c.shares() {
		if drawn < share.percent {
			return share.kind
		}
		drawn -= share.percent
	}
	return get
}
