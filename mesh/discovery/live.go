// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// maxRead is how many workloads may be asked about at once.
const maxRead = 1000

// LiveHandler returns the path to mount the Live service on and the service, which must be served as
// Handler must.
func (s *Server) LiveHandler() (string, http.Handler) {
	path, handler := meshpb.NewLiveHandler(live{s}, connect.WithReadMaxBytes(maxMessageBytes))
	return path, known(handler)
}

// live is the Live service.
type live struct{ *Server }

// Read answers the one who may read.
func (l live) Read(ctx context.Context, request *meshpb.ReadRequest) (*meshpb.ReadResponse, error) {
	made, ok := ctx.Value(callKey{}).(call)
	if !ok {
		return nil, connect.NewError(connect.CodeInternal, errors.New("served without LiveHandler"))
	}
	peer, err := identity.PeerID(made.tls)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnauthenticated, err)
	}
	if l.options.Reader.IsZero() || peer != l.options.Reader {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s may not read what proxies count", peer))
	}
	if len(request.GetWorkloads()) > maxRead {
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("more than %d workloads", maxRead))
	}
	index, _ := l.registry.current()
	if index == nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the cluster was not seen yet"))
	}
	after := request.GetAfter()
	if request.GetInstance() != l.registry.instance() {
		after = 0
	}
	return l.registry.read(request.GetWorkloads(), after), nil
}
