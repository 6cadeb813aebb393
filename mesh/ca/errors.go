// SPDX-License-Identifier: Apache-2.0

package ca

import "errors"

var (
	// ErrRefused says that a request asks for what may not be signed.
	ErrRefused = errors.New("certificate refused")
	// ErrToken says that a token proves nothing to this mesh.
	ErrToken = errors.New("token refused")
	// ErrSecret says that the Secret with the authority's key cannot be used.
	ErrSecret = errors.New("unusable trust Secret")
)
