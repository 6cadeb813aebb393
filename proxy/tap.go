// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/proxy/accesslog"
)

const (
	// tapsMost bounds who listens at once.
	tapsMost = 8
	// tapPending bounds the lines that wait for one listener.
	tapPending = 256
	// Bounds of what one listener gets, and what it gets unless it asks for something else.
	tapLines, tapLinesMost     = 1000, 100_000
	tapSeconds, tapSecondsMost = 60, 3600
)

var errTaps = errors.New("too many listen already")

// tap is one listener, and what it asks for. It gets lines of the access log, which hold no credentials.
type tap struct {
	direction, method, path, client string
	// status is three digits, or one and "xx"; empty for any.
	status string
	// sample is the share of the requests, 0 to 1.
	sample float64
	most   int
	limit  time.Duration

	lines   chan []byte
	dropped atomic.Uint64
}

// parseTap reads what a listener asks for.
func parseTap(query url.Values) (*tap, error) {
	t := &tap{sample: 1, most: tapLines, limit: tapSeconds * time.Second, lines: make(chan []byte, tapPending)}
	for name, values := range query {
		if len(values) != 1 {
			return nil, errors.New(name + ": write it once")
		}
		if err := t.set(name, values[0]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tap) set(name, value string) error {
	switch name {
	case "direction":
		if t.direction = value; value != directionInbound && value != directionOutbound {
			return errors.New("direction: write inbound or outbound")
		}
	case "method":
		t.method = value
	case "path":
		t.path = value
	case "client":
		t.client = value
	case "status":
		if t.status = value; !isStatus(value) {
			return errors.New("status: write one such as 503 or 5xx")
		}
	default:
		return t.bound(name, value)
	}
	return nil
}

// bound reads how much a listener wants.
func (t *tap) bound(name, value string) error {
	number, err := strconv.ParseFloat(value, 64)
	whole := err == nil && number >= 1 && number == math.Trunc(number)
	switch name {
	case "sample":
		if t.sample = number; err != nil || !(number > 0 && number <= 1) {
			return errors.New("sample: write a share above 0 and up to 1")
		}
	case "max":
		if !whole || number > tapLinesMost {
			return errors.New("max: write a number of requests from 1 to " + strconv.Itoa(tapLinesMost))
		}
		t.most = int(number)
	case "seconds":
		if !whole || number > tapSecondsMost {
			return errors.New("seconds: write a number from 1 to " + strconv.Itoa(tapSecondsMost))
		}
		t.limit = time.Duration(number) * time.Second
	default:
		return errors.New(strconv.Quote(name) + " is none of direction, method, path, client, status, sample, max and seconds")
	}
	return nil
}

// isStatus says whether a text is a status, or the first digit of some with xx.
func isStatus(text string) bool {
	return len(text) == 3 && text[0] >= '1' && text[0] <= '5' && (text[1:] == "xx" || areDigits(text))
}

func areDigits(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

// means says whether a request that has come is asked for.
func (t *tap) means(direction, client string, request requestView) bool {
	return (t.direction == "" || t.direction == direction) && (t.method == "" || t.method == request.method) &&
		(t.client == "" || t.client == client) && strings.HasPrefix(request.path, t.path) &&
		(t.sample == 1 || rand.Float64() < t.sample)
}

// tell gives the listener what has become of a request, if it has room.
func (t *tap) tell(e *accesslog.Entry) {
	if t.status != "" {
		status := strconv.Itoa(e.Status)
		if status != t.status && status[:1]+"xx" != t.status {
			return
		}
	}
	select {
	case t.lines <- accesslog.AppendJSON(nil, e):
	default:
		t.dropped.Add(1)
	}
}

// taps are those who listen.
type taps struct {
	// list is nil while nobody does, which is all that a request looks at then.
	list  atomic.Pointer[[]*tap]
	mutex sync.Mutex
	// dropped is how many lines those who have gone had no room for.
	dropped atomic.Uint64
}

func (s *taps) add(one *tap) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var list []*tap
	if known := s.list.Load(); known != nil {
		list = slices.Clone(*known)
	}
	if len(list) >= tapsMost {
		return errTaps
	}
	list = append(list, one)
	s.list.Store(&list)
	return nil
}

func (s *taps) remove(one *tap) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.dropped.Add(one.dropped.Load())
	list := slices.DeleteFunc(slices.Clone(*s.list.Load()), func(other *tap) bool { return other == one })
	if len(list) == 0 {
		s.list.Store(nil)
		return
	}
	s.list.Store(&list)
}

// total is how many lines there was no room for.
func (s *taps) total() uint64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	sum := s.dropped.Load()
	if list := s.list.Load(); list != nil {
		for _, one := range *list {
			sum += one.dropped.Load()
		}
	}
	return sum
}

// tapRecord has the record of a request told to those who ask for it.
func (p *Proxy) tapRecord(r *record, conn *servedConn, received time.Time, list []*tap, request requestView) *record {
	direction := directionOf(conn)
	for _, one := range list {
		if !one.means(direction, conn.info.client, request) {
			continue
		}
		if r == nil {
			r = p.begunRecord(conn, received)
		}
		r.taps = append(r.taps, one)
	}
	return r
}
