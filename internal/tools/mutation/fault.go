// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// fault is a change that somebody thought of.
type fault struct {
	Name string `json:"name"`
	File string `json:"file"`
	// Old occurs exactly once in the file, in a function.
	Old string `json:"old"`
	New string `json:"new"`
	// number switches it on.
	number int
}

func readFaults(path string) ([]fault, error) {
	var list []fault
	return list, read(path, &list)
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

// plant adds a copy of the function with the fault in it, and has the function call its copy when the
// fault is on.
func (w *writer) plant(tree *ast.File, f *fault) error {
	if found := strings.Count(w.content, f.Old); found != 1 {
		return fmt.Errorf("fault %q: its old text occurs %d times in %s; renew it", f.Name, found, f.File)
	}
	at := strings.Index(w.content, f.Old)
	for _, declaration := range tree.Decls {
		n, ok := declaration.(*ast.FuncDecl)
		if !ok || at < w.offset(n.Pos()) || at+len(f.Old) > w.offset(n.End()) {
			continue
		}
		w.count++
		f.number = w.count
		name := fmt.Sprintf("mutantFault%d", f.number)
		faulty := strings.Replace(w.text(n.Name.End(), n.End()), f.Old, f.New, 1)
		w.after += fmt.Sprintf("\n%s%s%s\n", w.text(n.Pos(), n.Name.Pos()), name, faulty)
		call := name + "(" + arguments(n.Type) + ")"
		if n.Recv != nil {
			call = n.Recv.List[0].Names[0].Name + "." + call
		}
		end := "; return"
		if n.Type.Results != nil {
			call, end = "return "+call, ""
		}
		w.insert(n.Body.Lbrace+1, fmt.Sprintf(" if mutantOn(%d) { %s%s }; ", f.number, call, end), false)
		return nil
	}
	return fmt.Errorf("fault %q: its old text is in no function of %s; renew it", f.Name, f.File)
}

// arguments hand a function's parameters on.
func arguments(function *ast.FuncType) string {
	var names []string
	for _, field := range function.Params.List {
		_, variadic := field.Type.(*ast.Ellipsis)
		for _, name := range field.Names {
			text := name.Name
			if variadic {
				text += "..."
			}
			names = append(names, text)
		}
	}
	return strings.Join(names, ", ")
}
