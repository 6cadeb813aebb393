// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"

	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// maxMessageBytes bounds what a caller without a certificate can make us read: a token and a
// request are a few kilobytes.
const maxMessageBytes = 64 << 10

// Server is the Identity service.
type Server struct {
	issuer   *Issuer
	attester Attester
	logger   logr.Logger
}

// NewServer returns the Identity service of an issuer.
func NewServer(issuer *Issuer, attester Attester, logger logr.Logger) *Server {
	return &Server{issuer: issuer, attester: attester, logger: logger.WithName("identity")}
}

// Handler returns the path to mount the service on and the service.
func (s *Server) Handler() (string, http.Handler) {
	return meshpb.NewIdentityHandler(s, connect.WithReadMaxBytes(maxMessageBytes))
}

// Certify signs a request for the service account that its token proves.
func (s *Server) Certify(ctx context.Context, request *meshpb.CertifyRequest) (*meshpb.CertifyResponse, error) {
	claims, err := s.attester.Attest(ctx, request.GetToken())
	if errors.Is(err, ErrToken) {
		s.logger.Info("token refused", "reason", err.Error())
		return nil, connect.NewError(connect.CodeUnauthenticated, err)
	}
	if err != nil {
		s.logger.Error(err, "cannot review tokens")
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the token could not be reviewed"))
	}
	logger := s.logger.WithValues("namespace", claims.Namespace, "serviceAccount", claims.ServiceAccount, "pod", claims.Pod)
	template, err := Evaluate(s.issuer.TrustDomain(), claims, request.GetCertificateSigningRequest())
	if err != nil {
		logger.Info("request refused", "reason", err.Error())
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	signer := s.issuer.current.Load()
	chain, err := signer.sign(template, s.issuer.options.Now())
	if err != nil {
		logger.Error(err, "cannot sign")
		return nil, connect.NewError(connect.CodeInternal, errors.New("the certificate could not be signed"))
	}
	logger.V(1).Info("certificate signed")
	return &meshpb.CertifyResponse{Certificates: chain, TrustAnchors: signer.anchorsDER()}, nil
}
