package boot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"storeboot/internal/bootproto"
)

// loadModules loads the modules of the image in its order, then those that the
// devices ask for. One of the first that the kernel has already is no error; any
// other error is, since the image names only modules that its work needs.
func (b *boot) loadModules() error {
	if err := b.loadListed(); err != nil {
		return err
	}
	if err := b.readAvailable(); err != nil {
		return err
	}
	b.loadForDevices()
	return nil
}

func (b *boot) loadListed() error {
	if len(b.spec.Modules) == 0 {
		return nil
	}
	if release := b.sys.Release(); b.spec.Kernel != "" && b.spec.Kernel != release {
		return fmt.Errorf("the initrd has modules for kernel %s, and this one is %s: build an initrd for it (mkinitrd build --kernel)", b.spec.Kernel, release)
	}
	if b.sys.CPUs() > 1 && slices.ContainsFunc(b.spec.Modules, func(m bootproto.BootModule) bool { return len(m.Needs) > 0 }) {
		return b.loadTogether()
	}
	for _, m := range b.spec.Modules {
		if err := b.loadModule(m); err != nil {
			return err
		}
	}
	return nil
}

// loadTogether loads what is independent at the same time: each module when
// those are loaded that it needs. Of several errors it returns the first in the
// image's order: others may follow from it.
func (b *boot) loadTogether() error {
	loaded := map[string]chan struct{}{}
	errs := make([]error, len(b.spec.Modules))
	panics := make(chan any, len(b.spec.Modules))
	// A thread for each processor: a module's init is the kernel's work.
	processors := make(chan struct{}, b.sys.CPUs())
	var all sync.WaitGroup
	for i, m := range b.spec.Modules {
		var needs []chan struct{}
		for _, name := range m.Needs {
			if c := loaded[name]; c != nil { // else it is built in, or comes later
				needs = append(needs, c)
			}
		}
		done := make(chan struct{})
		loaded[m.Name] = done
		all.Go(func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					panics <- p
				}
			}()
			for _, c := range needs {
				<-c
			}
			processors <- struct{}{}
			defer func() { <-processors }()
			errs[i] = b.loadModule(m)
		})
	}
	all.Wait()
	select {
	case p := <-panics:
		panic(p)
	default:
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// loadModule loads one module of the image unless the command line forbids it.
func (b *boot) loadModule(m bootproto.BootModule) error {
	if b.params.Blacklisted(m.Name) {
		b.log.info("module " + m.Name + " is not loaded: the command line forbids it")
		return nil
	}
	options := strings.TrimSpace(m.Options + " " + b.params.ModuleOptions(m.Name))
	b.debug(strings.TrimSpace("module " + m.Name + " " + options))
	err := b.sys.LoadModule(m.Path, options)
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("load module %s: %w", m.Name, explainModule(err))
	}
	return nil
}

// errModuleFile says that a module's file is not in the image.
var errModuleFile = errors.New("the initrd does not hold its file")

// explainModule gives the errors of finit_module(2) that have a meaning of
// their own that meaning.
func explainModule(err error) error {
	switch {
	case errors.Is(err, errModuleFile):
		return err
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w (a symbol is missing: a module that it needs must come before it)", err)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w (not a module of this kernel)", err)
	case errors.Is(err, syscall.ENOKEY), errors.Is(err, syscall.EKEYREJECTED):
		return fmt.Errorf("%w (its signature is not accepted by this kernel)", err)
	}
	return err
}
