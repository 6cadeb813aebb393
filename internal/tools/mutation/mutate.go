// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one place of a file that can behave differently.
type mutant struct {
	file, function string
	// what is changed, for people: the code as it was and what it becomes.
	what   string
	number int
	// place tells it from all others of its file, and from itself when its function is edited.
	place string
}

// mutants of some files of one package, and those files written so that each can be switched on.
type mutants struct {
	all []mutant
	// directory of the package, and its files by path, with one that holds the switch.
	directory string
	files     map[string]string
	// count of the numbers that were given, to faults too.
	count int
}

// programs are made of the mutants' files.
func (m *mutants) programs() *programs { return newPrograms(m.directory, m.files) }

// mutate makes all mutants of files. All of them are compiled into one program: a compiler's run for
// each would take most of the time.
func mutate(paths []string, faults []fault) (*mutants, error) {
	m := &mutants{files: map[string]string{}}
	name := ""
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, path, content, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		if directory := filepath.Dir(path); m.directory == "" {
			m.directory, name = directory, tree.Name.Name
		} else if directory != m.directory {
			return nil, fmt.Errorf("%s is not in %s: the mutants of one package are tried together", path, m.directory)
		}
		w := &writer{mutants: m, path: path, content: string(content), set: set}
		for _, declaration := range tree.Decls {
			w.declare(declaration)
			ast.Inspect(declaration, w.visit)
		}
		for i := range faults {
			if filepath.Clean(faults[i].File) != filepath.Clean(path) {
				continue
			}
			if err := w.plant(tree, &faults[i]); err != nil {
				return nil, err
			}
		}
		m.files[path] = w.written()
	}
	if name != "" {
		m.files[filepath.Join(m.directory, "mutant_switch.go")] = fmt.Sprintf(switchFile, name, m.count+1)
	}
	return m, nil
}

// edit replaces a stretch of a file; an empty stretch inserts.
type edit struct {
	from, to int
	text     string
	// closing edits at one offset are written inner ones first, all others outer ones first.
	closing bool
	order   int
}

// writer finds the mutants of a file.
type writer struct {
	*mutants
	path, content string
	set           *token.FileSet
	edits         []edit
	// function and text are those of the declaration that is looked at, and inIt its mutants so far.
	function, declared string
	inIt               int
	// after is what follows the file.
	after string
}

func (w *writer) declare(declaration ast.Decl) {
	w.function, w.declared, w.inIt = "", w.text(declaration.Pos(), declaration.End()), 0
	if n, ok := declaration.(*ast.FuncDecl); ok {
		w.function = n.Name.Name
	}
}

func (w *writer) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		w.operator(n)
	case *ast.IfStmt:
		w.negate(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			w.negateCases(n)
		}
	case *ast.BlockStmt:
		w.leaveOut(n.List)
	case *ast.CaseClause:
		w.leaveOut(n.Body)
	case *ast.ReturnStmt:
		w.flip(n)
	}
	return true
}

// operator swaps an operator for its neighbour.
func (w *writer) operator(n *ast.BinaryExpr) {
	begin, length := n.X.Pos(), token.Pos(len(n.Op.String()))
	switch n.Op {
	case token.EQL:
		w.reverse(begin, n.Y.End(), w.found(n.OpPos, n.OpPos+length, "!="))
		return
	case token.NEQ:
		w.reverse(begin, n.Y.End(), w.found(n.OpPos, n.OpPos+length, "=="))
		return
	}
	function, becomes := neighbour(n.Op)
	if function == "" {
		return
	}
	separator, closing := ", ", ")"
	if n.Op == token.LAND || n.Op == token.LOR { // What is on the right may not be reached.
		separator, closing = ", func() bool { return ", " })"
	}
	w.insert(begin, fmt.Sprintf("%s(%d, ", function, w.found(n.OpPos, n.OpPos+length, becomes)), false)
	// Up to the right side: after return a line must not end.
	w.edit(edit{from: w.offset(n.OpPos), to: w.offset(n.Y.Pos()), text: separator})
	w.insert(n.Y.End(), closing, true)
}

// neighbour is the function of switchFile that does what an operator does, and what its mutant is.
func neighbour(operator token.Token) (function, becomes string) {
	switch operator {
	case token.LSS:
		return "mutantLess", "<="
	case token.LEQ:
		return "mutantLessEqual", "<"
	case token.GTR:
		return "mutantGreater", ">="
	case token.GEQ:
		return "mutantGreaterEqual", ">"
	case token.LAND:
		return "mutantAnd", "||"
	case token.LOR:
		return "mutantOr", "&&"
	}
	return "", ""
}

func (w *writer) negateCases(n *ast.SwitchStmt) {
	for _, statement := range n.Body.List {
		if clause, ok := statement.(*ast.CaseClause); ok && len(clause.List) == 1 {
			w.negate(clause.List[0])
		}
	}
}

// negate turns a condition around. Where it is a comparison of two values that is the mutant of its
// operator already.
func (w *writer) negate(condition ast.Expr) {
	if n, ok := condition.(*ast.BinaryExpr); ok && (n.Op == token.EQL || n.Op == token.NEQ) {
		return
	}
	from, to := condition.Pos(), condition.End()
	w.reverse(from, to, w.found(from, to, "!("+w.text(from, to)+")"))
}

// reverse turns a truth around when a mutant is on.
func (w *writer) reverse(from, to token.Pos, number int) {
	w.insert(from, "((", false)
	w.insert(to, fmt.Sprintf(") != mutantOn(%d))", number), true)
}

// leaveOut leaves out calls and assignments to fields.
func (w *writer) leaveOut(list []ast.Stmt) {
	for _, statement := range list {
		switch n := statement.(type) {
		case *ast.ExprStmt:
		case *ast.AssignStmt:
			// A variable that is not assigned is mostly one that was not needed.
			if _, field := n.Lhs[0].(*ast.SelectorExpr); !field || n.Tok != token.ASSIGN {
				continue
			}
		default:
			continue
		}
		w.insert(statement.Pos(), fmt.Sprintf("if !mutantOn(%d) { ", w.found(statement.Pos(), statement.End(), "")), false)
		w.insert(statement.End(), " }", true)
	}
}

// flip turns a returned truth around.
func (w *writer) flip(n *ast.ReturnStmt) {
	if len(n.Results) != 1 {
		return
	}
	name, ok := n.Results[0].(*ast.Ident)
	if !ok || name.Name != "true" && name.Name != "false" {
		return
	}
	other, operator := "false", "!"
	if name.Name == "false" {
		other, operator = "true", ""
	}
	number := w.found(name.Pos(), name.End(), other)
	w.edit(edit{from: w.offset(name.Pos()), to: w.offset(name.End()), text: fmt.Sprintf("%smutantOn(%d)", operator, number)})
}

func (w *writer) offset(at token.Pos) int { return w.set.Position(at).Offset }

func (w *writer) text(from, to token.Pos) string { return w.content[w.offset(from):w.offset(to)] }

func (w *writer) insert(at token.Pos, text string, closing bool) {
	w.edit(edit{from: w.offset(at), to: w.offset(at), text: text, closing: closing})
}

func (w *writer) edit(e edit) {
	e.order = len(w.edits)
	if e.closing {
		e.order = -e.order
	}
	w.edits = append(w.edits, e)
}

// written is the file with all its mutants.
func (w *writer) written() string {
	slices.SortFunc(w.edits, func(a, b edit) int {
		closingFirst := 0
		if a.closing != b.closing {
			closingFirst = 1
			if a.closing {
				closingFirst = -1
			}
		}
		return cmp.Or(cmp.Compare(a.from, b.from), closingFirst, cmp.Compare(a.order, b.order))
	})
	out, at := &strings.Builder{}, 0
	for _, e := range w.edits {
		out.WriteString(w.content[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.WriteString(w.content[at:])
	return out.String() + w.after
}

// found notes a mutant and returns its number.
func (w *writer) found(from, to token.Pos, becomes string) int {
	old := w.text(from, to)
	line := w.set.Position(from).Line
	did := fmt.Sprintf("`%s` becomes `%s`", oneLine(old), oneLine(becomes))
	if becomes == "" {
		did = fmt.Sprintf("`%s` is left out", oneLine(old))
	}
	whole := strings.TrimSpace(strings.Split(w.content, "\n")[line-1])
	if !strings.HasPrefix(whole, oneLine(old)) {
		did += fmt.Sprintf(" in `%s`", whole)
	}
	w.inIt++
	w.count++
	place := fmt.Sprintf("%d of %s", w.inIt, w.declared)
	w.all = append(w.all, mutant{file: w.path, function: w.function, what: did, number: w.count, place: place})
	return w.count
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
