// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/mesh"
)

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create

// Attester finds out who holds a token. An error that is ErrToken is about the token, every other
// one about the review.
type Attester interface {
	Attest(ctx context.Context, token string) (Claims, error)
}

// TokenReviewer asks the API server.
type TokenReviewer struct{ client client.Client }

// NewTokenReviewer returns an Attester that asks the API server.
func NewTokenReviewer(reviews client.Client) *TokenReviewer { return &TokenReviewer{client: reviews} }

// Attest reviews a token.
func (r *TokenReviewer) Attest(ctx context.Context, token string) (Claims, error) {
	if token == "" {
		return Claims{}, fmt.Errorf("%w: it is empty", ErrToken)
	}
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{mesh.TokenAudience}},
	}
	if err := r.client.Create(ctx, review); err != nil {
		return Claims{}, fmt.Errorf("review a token: %w", err)
	}
	return readReview(&review.Status)
}

// podNameKey is the extra under which the API server names the pod that a token is bound to.
const podNameKey = "authentication.kubernetes.io/pod-name"

func readReview(status *authenticationv1.TokenReviewStatus) (Claims, error) {
	if !status.Authenticated {
		return Claims{}, fmt.Errorf("%w: not authenticated: %s", ErrToken, status.Error)
	}
	// An authenticator that knows no audiences answers without any; such a token might have been
	// meant for somebody else, who could then use it here.
	if !slices.Contains(status.Audiences, mesh.TokenAudience) {
		return Claims{}, fmt.Errorf("%w: its audiences are %q, not %q", ErrToken, status.Audiences, mesh.TokenAudience)
	}
	claims, err := parseUsername(status.User.Username)
	if err != nil {
		return Claims{}, err
	}
	if pods := status.User.Extra[podNameKey]; len(pods) == 1 {
		claims.Pod = pods[0]
	}
	return claims, nil
}

// parseUsername reads system:serviceaccount:<namespace>:<name>.
func parseUsername(username string) (Claims, error) {
	parts := strings.Split(username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return Claims{}, fmt.Errorf("%w: %q is not a service account", ErrToken, username)
	}
	namespace, name := parts[2], parts[3]
	problems := validation.ValidateNamespaceName(namespace, false)
	problems = append(problems, validation.ValidateServiceAccountName(name, false)...)
	if len(problems) > 0 {
		return Claims{}, fmt.Errorf("%w: %q is not a service account: %s", ErrToken, username, strings.Join(problems, "; "))
	}
	return Claims{Namespace: namespace, ServiceAccount: name}, nil
}
