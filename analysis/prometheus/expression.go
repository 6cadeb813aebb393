// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sluice-mesh/sluice/analysis"
)

// maxExpression is far more than a person writes.
const maxExpression = 4096

// A variable is a part of a label's value, never of the text of a query.
var variable = regexp.MustCompile(`\$[a-z]+`)

// expressed is the query for an expression that a Canary brings. It is taken apart and written anew, and
// each of its selectors is bound to the Canary's namespace: whatever it says, it reads nothing else.
func expressed(query analysis.NumberQuery) (string, error) {
	switch {
	case query.Namespace == "" || len(query.Hashes) != 2:
		return "", errors.New("namespace and the hashes of both revisions are needed")
	case len(query.Expression) > maxExpression:
		return "", fmt.Errorf("it is longer than %d characters", maxExpression)
	}
	parsed, err := takenApart(query.Expression)
	if err != nil {
		return "", err
	}
	for _, selector := range selectorsOf(parsed) {
		if err := bind(selector, query); err != nil {
			return "", err
		}
	}
	// What is to be asked is read again: were it written wrongly, it would not be asked.
	text := parsed.String()
	again, err := takenApart(text)
	loose := func(selector *parser.VectorSelector) bool { return !isBound(selector, query.Namespace) }
	if err != nil || again.String() != text || slices.ContainsFunc(selectorsOf(again), loose) {
		return "", errors.New("it cannot be bound to the namespace for certain: write it more simply")
	}
	return text, nil
}

// takenApart reads the language without its experimental features: info() among them reads series that
// no selector names.
func takenApart(text string) (parser.Expr, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, fmt.Errorf("it is no PromQL: %.300s", strings.Join(strings.Fields(err.Error()), " "))
	}
	if kind := parsed.Type(); kind != parser.ValueTypeVector && kind != parser.ValueTypeScalar {
		return nil, fmt.Errorf("it answers with a %s, not with numbers", parser.DocumentedType(kind))
	}
	return parsed, nil
}

func selectorsOf(parsed parser.Expr) (selectors []*parser.VectorSelector) {
	parser.Inspect(parsed, func(part parser.Node, _ []parser.Node) error {
		if selector, ok := part.(*parser.VectorSelector); ok {
			selectors = append(selectors, selector)
		}
		return nil
	})
	return selectors
}

// isBound: exactly one matcher is of the namespace, and it is the one that is meant.
func isBound(selector *parser.VectorSelector, namespace string) bool {
	count := 0
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name != labelNamespace {
			continue
		}
		if count++; matcher.Type != labels.MatchEqual || matcher.Value != namespace {
			return false
		}
	}
	return count == 1
}

// bind a selector to the namespace, and fill its variables in.
func bind(selector *parser.VectorSelector, query analysis.NumberQuery) error {
	namespace, err := labels.NewMatcher(labels.MatchEqual, labelNamespace, query.Namespace)
	if err != nil {
		return fmt.Errorf("match the namespace: %w", err)
	}
	bound := []*labels.Matcher{namespace}
	for _, matcher := range selector.LabelMatchers {
		value, err := filled(matcher, query)
		if err != nil {
			return err
		}
		meant, err := labels.NewMatcher(matcher.Type, matcher.Name, value)
		switch {
		case err != nil:
			return fmt.Errorf("match the label %.100q: %w", matcher.Name, err)
		case matcher.Name != labelNamespace:
			bound = append(bound, meant)
		case meant.Type != labels.MatchEqual || meant.Value != query.Namespace:
			return fmt.Errorf("%.100s: the namespace is the Canary's: leave it out", meant)
		}
	}
	selector.LabelMatchers = bound
	return nil
}

// filled is the value of a matcher with its variables filled in.
func filled(matcher *labels.Matcher, query analysis.NumberQuery) (value string, err error) {
	value = variable.ReplaceAllStringFunc(matcher.Value, func(name string) string {
		known, ok := map[string]string{
			"$canary": query.Hashes[0], "$stable": query.Hashes[1], "$namespace": query.Namespace, "$workload": query.Workload,
		}[name]
		switch {
		case !ok:
			err = fmt.Errorf("%s is no variable: write $canary, $stable, $namespace or $workload", name)
		case matcher.Type == labels.MatchRegexp || matcher.Type == labels.MatchNotRegexp:
			known = regexp.QuoteMeta(known)
		}
		return known
	})
	return value, err
}

var (
	errManyNumbers = errors.New("more than one number came where one, or one of each revision, is expected")
	errForeign     = errors.New("a number came of a pod_template_hash that is neither the canary's nor stable's")
	errNoNumber    = errors.New("what came is no number: neither a scalar nor a sample without a histogram")
)

// single is the one number of an answer, or the canary's where there is one of each revision. Not a
// number is what nobody knows.
func single(value model.Value, canary, stable string) (number float64, known bool, err error) {
	switch value := value.(type) {
	case *model.Scalar:
		return float64(value.Value), true, nil
	case model.Vector:
		return ofRevisions(value, canary, stable)
	}
	return 0, false, errNoNumber
}

func ofRevisions(vector model.Vector, canary, stable string) (number float64, known bool, err error) {
	seen := map[string]bool{}
	for _, sample := range vector {
		hash, named := sample.Metric[labelHash]
		switch of := string(hash); {
		case sample.Histogram != nil: // Its value would read as 0.
			return 0, false, errNoNumber
		case !named && len(vector) == 1:
			return float64(sample.Value), true, nil
		case !named || seen[of]:
			return 0, false, errManyNumbers
		case of != canary && of != stable:
			return 0, false, errForeign
		case of == canary:
			number, known = float64(sample.Value), true
		}
		seen[string(hash)] = true
	}
	return number, known, nil
}
