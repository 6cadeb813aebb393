// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Formats of -o; the empty one is a table.
const (
	formatWide     = "wide"
	formatJSON     = "json"
	formatYAML     = "yaml"
	formatMarkdown = "markdown"
)

func checkFormat(format string, known ...string) error {
	if format == "" || slices.Contains(known, format) {
		return nil
	}
	return fmt.Errorf("--output %s: write %s", format, strings.Join(known, ", "))
}

// writeObject writes a value for programs.
func writeObject(out io.Writer, format string, value any) error {
	var raw []byte
	var err error
	if format == formatYAML {
		raw, err = yaml.Marshal(value)
	} else {
		raw, err = json.MarshalIndent(value, "", "  ")
		raw = append(raw, '\n')
	}
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	_, err = out.Write(raw)
	return err
}

// writeTable writes rows in columns, the first row in capitals.
func writeTable(out io.Writer, rows [][]string) error {
	table := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	for i, row := range rows {
		line := strings.Join(row, "\t")
		if i == 0 {
			line = strings.ToUpper(line)
		}
		if _, err := fmt.Fprintln(table, line); err != nil {
			return err
		}
	}
	return table.Flush()
}

// section is a table of a report.
type section struct {
	title string
	rows  [][]string
}

// writeSections writes those that have more than the row of their titles.
func writeSections(out io.Writer, sections []section) error {
	for _, section := range sections {
		if len(section.rows) < 2 {
			continue
		}
		if _, err := fmt.Fprintf(out, "\n%s:\n\n", section.title); err != nil {
			return err
		}
		if err := writeTable(out, section.rows); err != nil {
			return err
		}
	}
	return nil
}

// ago tells a time as kubectl tells ages.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(then))
}

// terminal: somebody looks at the output, and wants colours.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// coloured marks a phase: green rests, yellow moves, red needs a person.
func coloured(colours bool, phase v1alpha1.Phase) string {
	if !colours {
		return string(phase)
	}
	colour := 33
	switch phase {
	case v1alpha1.PhaseStable:
		colour = 32
	case v1alpha1.PhaseRejected, v1alpha1.PhaseRollingBack:
		colour = 31
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, phase)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
