package boot

import (
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"storeboot/internal/bootproto"
)

// together is an image with two chains of modules that do not need each other.
const together = `{"version":1,"modules":[
	{"name":"a","path":"/a.ko"},{"name":"b","path":"/b.ko"},
	{"name":"c","path":"/c.ko","needs":["a"]},{"name":"d","path":"/d.ko","needs":["b","c"]}]}`

// TestModulesTogether holds that independent modules are loaded at the same
// time, and others after what they need.
func TestModulesTogether(t *testing.T) {
	f := newFake(t, "tvix.find")
	f.cpus = 2
	f.files[bootproto.BootSpecPath] = together
	// a and b go on only when both have begun.
	var both sync.WaitGroup
	both.Add(2)
	f.onModule = func(p string) {
		if p == "/a.ko" || p == "/b.ko" {
			both.Done()
			both.Wait()
		}
	}
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited {
		t.Errorf("report %+v", r)
	}
	got := f.made("module")
	at := func(name string) int { return slices.Index(got, "module /"+name+".ko ") }
	if len(got) != 4 || at("a") > at("c") || at("c") > at("d") || at("b") > at("d") {
		t.Errorf("%q", got)
	}
}

// TestModulesTogetherFail holds that the first error counts, and that a panic is
// a failure of the step.
func TestModulesTogetherFail(t *testing.T) {
	f := newFake(t, "tvix.find")
	f.cpus = 2
	f.files[bootproto.BootSpecPath] = together
	f.fail["module /a.ko"] = syscall.EINVAL
	f.fail["module /c.ko"] = syscall.ENOENT
	if r := f.boot(); r.Step != "modules" || !strings.Contains(r.Message, "load module a: invalid argument") {
		t.Errorf("report %+v", r)
	}
	f = newFake(t, "tvix.find")
	f.cpus = 2
	f.files[bootproto.BootSpecPath] = together
	f.panicAt = "module /b.ko"
	if r := f.boot(); r.Step != "modules" || !strings.Contains(r.Message, "panic: boom") {
		t.Errorf("report %+v", r)
	}
}
