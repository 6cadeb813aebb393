// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync"
)

// dialsMost is how many connections to one address are opened at once. An endpoint that answers
// nothing would otherwise hold a descriptor for each request that tries it, and one that is just
// starting would get all handshakes at the same moment.
const dialsMost = 64

// dialing bounds how many connections to each address are being opened.
type dialing struct {
	mutex sync.Mutex
	slots map[string]*dialSlots
}

type dialSlots struct {
	taken chan struct{}
	// users are those who have a slot or wait for one.
	users int
}

func newDialing() *dialing { return &dialing{slots: map[string]*dialSlots{}} }

// enter waits for a slot at an address, which leave gives back.
func (d *dialing) enter(ctx context.Context, address string) (leave func(), _ error) {
	slots := d.join(address)
	select {
	case slots.taken <- struct{}{}:
		return func() {
			<-slots.taken
			d.part(address)
		}, nil
	case <-ctx.Done():
		d.part(address)
		return nil, context.Cause(ctx)
	}
}

func (d *dialing) join(address string) *dialSlots {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	slots, ok := d.slots[address]
	if !ok {
		slots = &dialSlots{taken: make(chan struct{}, dialsMost)}
		d.slots[address] = slots
	}
	slots.users++
	return slots
}

func (d *dialing) part(address string) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if slots := d.slots[address]; slots.users == 1 {
		delete(d.slots, address)
	} else {
		slots.users--
	}
}
