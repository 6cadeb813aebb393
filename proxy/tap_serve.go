// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/json"
	"net/http"
	"time"
)

// tapEnd is the last line of a listener.
type tapEnd struct {
	// End is why there are no more: "max" or "seconds".
	End     string `json:"end"`
	Dropped uint64 `json:"dropped"`
}

// serveTap tells of requests as they end, until the listener has as many as it wants, its time is up or it has
// gone.
func (p *Proxy) serveTap(w http.ResponseWriter, r *http.Request) {
	asked, err := parseTap(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := p.taps.add(asked); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer p.taps.remove(asked)
	control := http.NewResponseController(w)
	// A listener that does not read holds nothing for ever.
	_ = control.SetWriteDeadline(time.Now().Add(asked.limit + lingerTime)) // Writing will tell.
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	_ = control.Flush() // Who has the head knows that it listens.
	timer := time.NewTimer(asked.limit)
	defer timer.Stop()
	end := tapEnd{End: "seconds"}
	for told := 0; ; told++ {
		if told == asked.most {
			end.End = "max"
			break
		}
		select {
		case line := <-asked.lines:
			if _, err := w.Write(line); err != nil {
				return // It has gone.
			}
			if len(asked.lines) == 0 {
				_ = control.Flush() // Writing will tell.
			}
			continue
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
		break
	}
	end.Dropped = asked.dropped.Load()
	_ = json.NewEncoder(w).Encode(end) // Whoever listened has gone if it fails.
}
