package simulation

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

func TestQuick(t *testing.T) {
	runs := 40
	if s := os.Getenv("R"); s != "" {
		runs, _ = strconv.Atoi(s)
	}
	rules := []Rule{
		Gate("gate", GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5}),
		Gate("callers", GateOptions{Vantage: Vantage{Scrape: 15, Callers: 3}, Interval: 5}),
	}
	if os.Getenv("X") != "" {
		rules = append(rules[:1],
			Gate("nocap", GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5}),
			Gate("nophi", GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5, NoPods: true}),
		)
	}
	if os.Getenv("P") != "" {
		rules = []Rule{Flagger("F30", 30), Flagger("F60", 60), Argo("A0", 0), Argo("A3", 3), MannWhitney("MW")}
	}
	for _, s := range append(GoodCanaries(), Regressions()...) {
		if f := os.Getenv("F"); f != "" && !regexp.MustCompile(f).MatchString(s.Name) {
			continue
		}
		begin := time.Now()
		cells, err := Play(t.Context(), []Scenario{s}, rules, runs)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%-42s want %4.1f %5.0f %5.0f %4.0f |", s.Name, s.Research.Wrong, s.Research.Median, s.Research.P95, s.Research.Bad)
		for _, c := range cells {
			line += fmt.Sprintf(" %5.1f(%5.1f) %5.0f %5.0f %5.1f |", c.Wrong.Value, c.WrongFull.Value, c.Median.Value, c.P95.Value, c.Bad.Value)
		}
		fmt.Println(line, time.Since(begin).Round(time.Millisecond))
	}
}
