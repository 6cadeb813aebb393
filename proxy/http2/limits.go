// SPDX-License-Identifier: Apache-2.0

package http2

import "time"

// Limits are what a peer may do. Zero values mean the defaults.
type Limits struct {
	// MaxHead is the most bytes of a head, counted as SETTINGS_MAX_HEADER_LIST_SIZE is: 64 KiB by
	// default. Compressed it may be as large.
	MaxHead int
	// MaxFields is the most fields of a head, 256 by default.
	MaxFields int
	// MaxStreams is the most streams that may be open at once, 1000 by default.
	MaxStreams int
	// Resets is how many streams more may be reset than are carried to their end, 1000 by default; a
	// tenth of them is forgiven each second. Opening streams only to reset them costs a client next
	// to nothing.
	Resets int
	// IdleFrames are those that ask for work and carry nothing: settings, pings, priorities, empty
	// data. 1000 more of them than others by default, and a tenth of them is forgiven each second.
	IdleFrames int
	// HeadTime is how long the preface of a connection, or a head, may take from its first frame to
	// its last; 10 s by default.
	HeadTime time.Duration
}

// Defaults of Limits.
const (
	defaultMaxStreams = 1000
	defaultResets     = 1000
	defaultIdleFrames = 1000
	defaultHeadTime   = 10 * time.Second
	// pendingMost bounds what waits to be written beside data: a peer that asks and does not read.
	pendingMost = 1 << 20
	// fragmentsMost bounds the frames of one head.
	fragmentsMost = 64
)

func (l Limits) withDefaults() Limits {
	orDefault := func(value *int, otherwise int) {
		if *value <= 0 {
			*value = otherwise
		}
	}
	orDefault(&l.MaxHead, 64<<10)
	orDefault(&l.MaxFields, 256)
	orDefault(&l.MaxStreams, defaultMaxStreams)
	orDefault(&l.Resets, defaultResets)
	orDefault(&l.IdleFrames, defaultIdleFrames)
	if l.HeadTime <= 0 {
		l.HeadTime = defaultHeadTime
	}
	return l
}

// budget is how much of something a peer may still do.
type budget struct {
	left, most float64
	last       time.Time
}

func newBudget(most int) budget { return budget{left: float64(most), most: float64(most)} }

// spend takes one, and says whether there was one.
func (b *budget) spend(now time.Time) bool {
	if !b.last.IsZero() {
		b.left = min(b.most, b.left+b.most/10*now.Sub(b.last).Seconds())
	}
	b.last = now
	b.left--
	return b.left >= 0
}

// earn gives one back.
func (b *budget) earn() { b.left = min(b.most, b.left+1) }
