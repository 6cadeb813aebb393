// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const (
	// maxFact is how many bytes of a fact are shown: Discord takes 1024, also when each was escaped.
	maxFact = 256
	// narrow facts stand side by side.
	narrow = 40
)

// object is JSON as the services define it.
type object = map[string]any

// fact is one line of a message, with its name.
type fact struct{ name, value string }

func (m *Message) title() string {
	kind := "Info"
	if m.bad() {
		kind = "Error"
	}
	return fmt.Sprintf("%s: %s of %s/%s", kind, m.Reason, m.Namespace, m.Canary)
}

func (m *Message) bad() bool { return m.Severity == v1alpha1.SeverityError }

func (m *Message) facts() []fact {
	all := []fact{
		{"Workload", m.Workload}, {"Phase", string(m.Phase)}, {"Weight", fmt.Sprintf("%g %%", m.Weight)}, {"Run", m.Run},
	}
	if m.Source != nil {
		all = append(all, fact{"Revision", m.Source.Revision}, fact{"Author", m.Source.Author})
	}
	var known []fact
	for _, one := range append(all, fact{"Record", m.Head}) {
		if one.value != "" {
			known = append(known, fact{one.name, shortened(one.value)})
		}
	}
	return known
}

func shortened(text string) string {
	if len(text) <= maxFact {
		return text
	}
	cut := maxFact
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// slack renders for an incoming webhook of Slack. Three characters are written as entities there: with
// them markup, links and mentions begin.
func slack(channel string, m *Message) object {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	var fields []object
	for _, one := range m.facts() {
		fields = append(fields, object{"title": one.name, "value": escape.Replace(one.value), "short": len(one.value) < narrow})
	}
	colour := "good"
	if m.bad() {
		colour = "danger"
	}
	body := object{"attachments": []object{{
		"color": colour, "title": escape.Replace(m.title()), "text": escape.Replace(m.Text), "fallback": escape.Replace(m.title() + ": " + m.Text),
		"mrkdwn_in": []string{}, "fields": fields, "ts": m.Time.Unix(),
	}}}
	if channel != "" {
		body["channel"] = channel
	}
	return body
}

// teams renders an adaptive card for a workflow of Microsoft Teams, whose text is Markdown.
func teams(m *Message) object {
	escape := strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "(", `\(`, "`", "\\`", "#", `\#`, "<", `\<`)
	var facts []object
	for _, one := range m.facts() {
		facts = append(facts, object{"title": one.name, "value": escape.Replace(one.value)})
	}
	colour := "Good"
	if m.bad() {
		colour = "Attention"
	}
	return object{"type": "message", "attachments": []object{{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content": object{
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			"body": []object{
				{"type": "TextBlock", "size": "Medium", "weight": "Bolder", "color": colour, "wrap": true, "text": escape.Replace(m.title())},
				{"type": "TextBlock", "wrap": true, "text": escape.Replace(m.Text)},
				{"type": "FactSet", "facts": facts},
			},
		},
	}}}
}

// Colours of Discord's embeds.
const (
	green = 0x2e9e4f
	red   = 0xc0392b
)

// discord renders for a webhook of Discord, whose text is Markdown. Nobody is mentioned, whatever the
// text says.
func discord(m *Message) object {
	escape := strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "~", `\~`, "|", `\|`, "[", `\[`, "<", `\<`, ">", `\>`, "#", `\#`)
	var fields []object
	for _, one := range m.facts() {
		fields = append(fields, object{"name": one.name, "value": escape.Replace(one.value), "inline": len(one.value) < narrow})
	}
	colour := green
	if m.bad() {
		colour = red
	}
	return object{
		"username": "Sluice", "allowed_mentions": object{"parse": []string{}},
		"embeds": []object{{
			"title": escape.Replace(m.title()), "description": escape.Replace(m.Text), "color": colour, "fields": fields,
			"timestamp": m.Time.UTC().Format(time.RFC3339),
		}},
	}
}
