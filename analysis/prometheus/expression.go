// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"regexp"

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
	if len(query.Expression) > maxExpression {
		return "", fmt.Errorf("it is longer than %d characters", maxExpression)
	}
	if query.Namespace == "" || len(query.Hashes) != 2 {
		return "", errors.New("namespace and the hashes of both revisions are needed")
	}
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(query.Expression)
	if err != nil {
		return "", fmt.Errorf("it is no PromQL: %w", err)
	}
	var wrong error
	parser.Inspect(parsed, func(part parser.Node, _ []parser.Node) error {
		if selector, ok := part.(*parser.VectorSelector); ok && wrong == nil {
			wrong = bind(selector, query)
		}
		return wrong
	})
	if wrong != nil {
		return "", wrong
	}
	return parsed.String(), nil
}

// bind a selector to the namespace, and fill its variables in.
func bind(selector *parser.VectorSelector, query analysis.NumberQuery) error {
	bound := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labelNamespace, query.Namespace)}
	for _, matcher := range selector.LabelMatchers {
		value, err := filled(matcher, query)
		if err != nil {
			return err
		}
		meant, err := labels.NewMatcher(matcher.Type, matcher.Name, value)
		if err != nil {
			return fmt.Errorf("match the label %s: %w", matcher.Name, err)
		}
		if meant.String() != bound[0].String() {
			bound = append(bound, meant)
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

var errManyNumbers = errors.New("more than one number came where one or one of each revision is expected")

// single is the one number of an answer, or the canary's where there is one of each revision. Not a
// number is what nobody knows.
func single(value model.Value, canary, stable string) (number float64, known bool, err error) {
	switch value := value.(type) {
	case *model.Scalar:
		return float64(value.Value), true, nil
	case model.Vector:
		return ofRevisions(value, canary, stable)
	}
	return 0, false, errManyNumbers
}

func ofRevisions(vector model.Vector, canary, stable string) (number float64, known bool, err error) {
	if len(vector) == 1 {
		if _, named := vector[0].Metric[labelHash]; !named {
			return float64(vector[0].Value), true, nil
		}
	}
	seen := map[string]bool{}
	for _, sample := range vector {
		hash := string(sample.Metric[labelHash])
		if seen[hash] || hash != canary && hash != stable {
			return 0, false, errManyNumbers
		}
		seen[hash] = true
		if hash == canary {
			number, known = float64(sample.Value), true
		}
	}
	return number, known, nil
}
