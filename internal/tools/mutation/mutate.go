// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// change is one place of a file that is written differently.
type change struct {
	file string
	// what is changed, for people: the line as it was and what was done to it.
	what string
	// content is the whole file after the change.
	content []byte
}

// fault is a change that somebody thought of.
type fault struct {
	Name string `json:"name"`
	File string `json:"file"`
	// Old occurs exactly once in the file.
	Old string `json:"old"`
	New string `json:"new"`
}

func readFaults(path string) ([]change, error) {
	var list []fault
	if err := read(path, &list); err != nil {
		return nil, err
	}
	var changes []change
	for _, f := range list {
		content, err := os.ReadFile(f.File)
		if err != nil {
			return nil, fmt.Errorf("read the file of fault %q: %w", f.Name, err)
		}
		if found := strings.Count(string(content), f.Old); found != 1 {
			return nil, fmt.Errorf("%s: fault %q: its old text occurs %d times in %s; renew it", path, f.Name, found, f.File)
		}
		changes = append(changes, change{f.File, f.Name, []byte(strings.Replace(string(content), f.Old, f.New, 1))})
	}
	return changes, nil
}

func readReasons(path string) (map[string]string, error) {
	reasons := map[string]string{}
	return reasons, read(path, &reasons)
}

func read(path string, into any) error {
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// mutate makes all mutants of files.
func mutate(files []string) ([]change, error) {
	var all []change
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, path, content, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		m := &mutator{path: path, content: string(content), set: set}
		ast.Inspect(tree, m.visit)
		all = append(all, m.found...)
	}
	return all, nil
}

type mutator struct {
	path, content string
	set           *token.FileSet
	found         []change
}

func (m *mutator) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		if other := swapped(n.Op); other != "" {
			m.replace(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), other)
		}
	case *ast.IfStmt:
		m.negate(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			m.negateCases(n)
		}
	case *ast.ExprStmt:
		m.replace(n.Pos(), n.End(), "")
	case *ast.AssignStmt:
		// Only of fields: a variable would be left unused.
		if _, field := n.Lhs[0].(*ast.SelectorExpr); field && n.Tok == token.ASSIGN {
			m.replace(n.Pos(), n.End(), "")
		}
	case *ast.ReturnStmt:
		m.flip(n)
	}
	return true
}

func (m *mutator) negateCases(n *ast.SwitchStmt) {
	for _, statement := range n.Body.List {
		if clause, ok := statement.(*ast.CaseClause); ok && len(clause.List) == 1 {
			m.negate(clause.List[0])
		}
	}
}

func (m *mutator) negate(condition ast.Expr) {
	m.replace(condition.Pos(), condition.End(), "!("+m.text(condition.Pos(), condition.End())+")")
}

// flip turns a returned truth around.
func (m *mutator) flip(n *ast.ReturnStmt) {
	if len(n.Results) != 1 {
		return
	}
	if name, ok := n.Results[0].(*ast.Ident); ok && (name.Name == "true" || name.Name == "false") {
		m.replace(name.Pos(), name.End(), map[string]string{"true": "false", "false": "true"}[name.Name])
	}
}

func (m *mutator) offset(at token.Pos) int { return m.set.Position(at).Offset }

func (m *mutator) text(from, to token.Pos) string { return m.content[m.offset(from):m.offset(to)] }

func (m *mutator) replace(from, to token.Pos, with string) {
	old := m.text(from, to)
	line := m.set.Position(from).Line
	did := fmt.Sprintf("`%s` becomes `%s`", oneLine(old), oneLine(with))
	if with == "" {
		did = fmt.Sprintf("`%s` is left out", oneLine(old))
	}
	whole := strings.TrimSpace(strings.Split(m.content, "\n")[line-1])
	if !strings.HasPrefix(whole, oneLine(old)) {
		did += fmt.Sprintf(" in `%s`", whole)
	}
	m.found = append(m.found, change{m.path, did, []byte(m.content[:m.offset(from)] + with + m.content[m.offset(to):])})
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func swapped(operator token.Token) string {
	switch operator {
	case token.EQL:
		return "!="
	case token.NEQ:
		return "=="
	case token.LSS:
		return "<="
	case token.LEQ:
		return "<"
	case token.GTR:
		return ">="
	case token.GEQ:
		return ">"
	case token.LAND:
		return "||"
	case token.LOR:
		return "&&"
	}
	return ""
}
