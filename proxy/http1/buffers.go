// SPDX-License-Identifier: Apache-2.0

package http1

import "sync"

// Sizes of buffers. Most heads and small answers fit the small one; the large one holds a head of the
// default limit and leaves room for content beside it.
const (
	smallBuffer = 8 << 10
	largeBuffer = 96 << 10
)

// Buffers is a pool of buffers for readers and writers. Its zero value can be used.
type Buffers struct{ small, large sync.Pool }

// get returns a buffer of at least a size.
func (b *Buffers) get(size int) []byte {
	switch {
	case size <= smallBuffer:
		if kept, ok := b.small.Get().(*[smallBuffer]byte); ok {
			return kept[:]
		}
		return make([]byte, smallBuffer)
	case size <= largeBuffer:
		if kept, ok := b.large.Get().(*[largeBuffer]byte); ok {
			return kept[:]
		}
		return make([]byte, largeBuffer)
	}
	return make([]byte, size)
}

// put takes a buffer back. Those that are larger than any of the pool's are left to the collector.
func (b *Buffers) put(buffer []byte) {
	switch cap(buffer) {
	case smallBuffer:
		b.small.Put((*[smallBuffer]byte)(buffer[:smallBuffer]))
	case largeBuffer:
		b.large.Put((*[largeBuffer]byte)(buffer[:largeBuffer]))
	}
}
