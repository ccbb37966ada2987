package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	CgoFiles     []string
}

// commands are the top-level directories that are programs.
var commands = []string{"mkinitrd", "init", "launcher", "virtiofsd", "kernelconfig"}

// formats describe data and import nothing of ours but another format.
var formats = []string{"internal/newc", "internal/storepath", "internal/bootproto", "internal/strictjson", "init/superblock", "mkinitrd/kmod", "mkinitrd/compress", "virtiofsd/nar", "virtiofsd/virtqueue"}

// TestImports holds the direction of imports: a command imports its own parts
// and internal; internal imports internal only; formats import formats.
func TestImports(t *testing.T) {
	owner := func(path string) string {
		top, _, _ := strings.Cut(strings.TrimPrefix(path, "storeboot/"), "/")
		return top
	}
	seen := map[string]bool{}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, "storeboot/")
		seen[name] = true
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: the programs must build everywhere with CGO_ENABLED=0", name)
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "storeboot/") {
				continue
			}
			from, to := owner(p.ImportPath), owner(imp)
			switch {
			case isOneOf(name, formats):
				if !isOneOf(strings.TrimPrefix(imp, "storeboot/"), formats) {
					t.Errorf("%s imports %s: a format imports no other thing of ours, so that it can be read alone", name, imp)
				}
			case to == "internal" || to == from:
			case to == "templates" && from == "mkinitrd":
			case from == "tests":
			case from == "internal":
				t.Errorf("%s imports %s: internal packages serve the programs and know none of them", name, imp)
			default:
				t.Errorf("%s imports %s: programs never import each other; they meet in files, sockets and bootproto", name, imp)
			}
		}
	}
	for _, f := range formats {
		if !seen[f] {
			t.Errorf("%s is named as a format but does not exist", f)
		}
	}
	for _, c := range commands {
		if !seen[c] {
			t.Errorf("command %s does not exist", c)
		}
	}
}

// TestInternalIsShared holds that code is in internal only if two programs use
// it.
func TestInternalIsShared(t *testing.T) {
	users := map[string]map[string]bool{}
	packages := listPackages(t)
	for _, p := range packages {
		for _, imp := range append(append(p.Imports, p.TestImports...), p.XTestImports...) {
			if strings.HasPrefix(imp, "storeboot/internal/") && imp != p.ImportPath {
				if users[imp] == nil {
					users[imp] = map[string]bool{}
				}
				top, rest, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, "storeboot/"), "/")
				if top == "internal" {
					top = rest
				}
				users[imp][top] = true
			}
		}
	}
	for _, p := range packages {
		// A front end for tests is used by tests alone, of whichever program.
		if !strings.HasPrefix(p.ImportPath, "storeboot/internal/") || strings.HasSuffix(p.ImportPath, "test") {
			continue
		}
		if len(users[p.ImportPath]) < 2 {
			t.Errorf("%s has %d users: what one program uses belongs to that program", p.ImportPath, len(users[p.ImportPath]))
		}
	}
}

func isOneOf(s string, list []string) bool {
	for _, x := range list {
		if s == x {
			return true
		}
	}
	return false
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,CgoFiles", "storeboot/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list names only %d packages", len(list))
	}
	return list
}
