// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PortRange is a range of TCP ports, both ends included. A single port has equal ends.
type PortRange struct {
	First, Last uint16
}

// Ports makes one range of each port.
func Ports(ports ...uint16) []PortRange {
	ranges := make([]PortRange, 0, len(ports))
	for _, port := range ports {
		ranges = append(ranges, PortRange{First: port, Last: port})
	}
	return ranges
}

// ParsePorts reads a list such as "25,3306,8000-8080". An empty list is no ports.
func ParsePorts(list string) ([]PortRange, error) {
	var ranges []PortRange
	for _, item := range strings.Split(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		lower, err := parsePort(first)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		upper, err := parsePort(last)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		if upper < lower {
			return nil, fmt.Errorf("%q: a range must ascend", item)
		}
		ranges = append(ranges, PortRange{First: lower, Last: upper})
	}
	return ranges, nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("write a port from 1 to 65535 or a range such as 8000-8080")
	}
	return uint16(port), nil
}

// String is the form that ParsePorts reads and that nft prints.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// FormatPorts is the inverse of ParsePorts.
func FormatPorts(ranges []PortRange) string {
	items := make([]string, 0, len(ranges))
	for _, r := range ranges {
		items = append(items, r.String())
	}
	return strings.Join(items, ",")
}

// merge sorts ranges and joins those that overlap or touch, so that equal sets give equal rules.
func merge(ranges []PortRange) []PortRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var merged []PortRange
	for _, next := range sorted {
		if last := len(merged) - 1; last >= 0 && int(next.First) <= int(merged[last].Last)+1 {
			merged[last].Last = max(merged[last].Last, next.Last)
			continue
		}
		merged = append(merged, next)
	}
	return merged
}
