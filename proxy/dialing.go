// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"sync"
)

const (
	// dialsMost is how many connections to one address are opened at once. An endpoint that answers
	// nothing would otherwise hold a descriptor for each request that tries it, and one that is just
	// starting would get all handshakes at the same moment.
	dialsMost = 64
	// dialersMost is how many may open connections to one address or wait for their turn. It is reached
	// only when thousands wait.
	dialersMost = 4096
)

// errDialsBusy is for connections that were not even begun: too many others were being opened. It says
// nothing of the endpoint.
var errDialsBusy = errors.New("too many connections to the address are being opened")

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

// enter waits for one of the slots of an address, which leave gives back.
func (d *dialing) enter(ctx context.Context, address string) (leave func(), _ error) {
	slots := d.join(address)
	if slots == nil {
		return nil, errDialsBusy
	}
	select {
	case slots.taken <- struct{}{}:
	case <-ctx.Done():
		d.part(address)
		return nil, errDialsBusy
	}
	leave = func() {
		<-slots.taken
		d.part(address)
	}
	if ctx.Err() != nil { // Both had come: nobody waits for it any more.
		leave()
		return nil, errDialsBusy
	}
	return leave, nil
}

// join returns nil when there are too many already.
func (d *dialing) join(address string) *dialSlots {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	slots, ok := d.slots[address]
	if !ok {
		slots = &dialSlots{taken: make(chan struct{}, dialsMost)}
		d.slots[address] = slots
	}
	if slots.users == dialersMost {
		return nil
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
