// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strconv"

	"github.com/sluice-mesh/sluice/mesh"
)

// places is how many places a sticky cookie can name: as many as weights can tell apart.
const places = 100_000

// standing is where in [0, 1) a request stands. The revisions' shares are laid out there in order and
// the canary's is the last, so as it grows it takes users in and lets none go.
type standing struct {
	at float64
	// place is what a new cookie shall say, -1 for none.
	place int
}

// standingOf is pure: it follows from the split, the request and one draw. Every proxy that knows the
// split finds the same for the same user.
func standingOf(split *mesh.Split, request requestView, share float64) standing {
	sticky := split.Stickiness
	switch {
	case sticky == nil, request.header == nil:
	case sticky.Header != "":
		if user := request.firstHeader(sticky.Header); user != "" {
			return standing{at: float64(spread(candidateOf(split), user)>>11) / (1 << 53), place: -1}
		}
	case sticky.Cookie != "":
		if place, ok := placeOf(request.firstCookie(sticky.Cookie)); ok {
			return standing{at: turned(split, place), place: -1}
		}
		place := int(share * places)
		return standing{at: turned(split, place), place: place}
	}
	return standing{at: share, place: -1}
}

// placeOf reads a cookie's value.
func placeOf(value string) (int, bool) {
	place, err := strconv.Atoi(value)
	return place, err == nil && place >= 0 && place < places
}

// turned is where a place stands in this run. Each run turns the circle elsewhere: it would otherwise
// always be the same users who are the first to meet a canary.
func turned(split *mesh.Split, place int) float64 {
	turn := int(spread(candidateOf(split), "") % places)
	return (float64((place+turn)%places) + 0.5) / places
}

// candidateOf is what tells runs apart: the hash of the revision that is tried.
func candidateOf(split *mesh.Split) string {
	for i := range split.Revisions {
		if split.Revisions[i].Name == canaryRevision {
			return split.Revisions[i].PodTemplateHash
		}
	}
	return ""
}

// spread is FNV-1a over both texts, stirred by the finalizer of MurmurHash3 because FNV alone leaves
// texts that differ in their last letter side by side.
func spread(run, user string) uint64 {
	hash := uint64(14695981039346656037)
	for _, text := range [2]string{run, user} {
		for i := range len(text) {
			hash = (hash ^ uint64(text[i])) * 1099511628211
		}
		hash *= 1099511628211 // Keeps "ab"+"c" from "a"+"bc".
	}
	hash ^= hash >> 33
	hash *= 0xff51afd7ed558ccd
	hash ^= hash >> 33
	hash *= 0xc4ceb9fe1a85ec53
	return hash ^ hash>>33
}

// stickyCookie is the Set-Cookie that keeps a user's place.
func stickyCookie(sticky *mesh.Stickiness, place int) string {
	return sticky.Cookie + "=" + strconv.Itoa(place) +
		"; Path=/; Max-Age=" + strconv.FormatInt(sticky.CookieMaxAge, 10) + "; HttpOnly; SameSite=Lax"
}
