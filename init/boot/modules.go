package boot

import (
	"errors"
	"fmt"
	"syscall"
)

// loadModules loads the modules of the image in its order. One that the kernel
// has already is no error; any other error is, since the image names only
// modules that its work needs.
func (b *boot) loadModules() error {
	if len(b.spec.Modules) == 0 {
		return nil
	}
	if release := b.sys.Release(); b.spec.Kernel != "" && b.spec.Kernel != release {
		return fmt.Errorf("the initrd has modules for kernel %s, and this one is %s: build an initrd for it (mkinitrd build --kernel)", b.spec.Kernel, release)
	}
	for _, m := range b.spec.Modules {
		err := b.sys.LoadModule(m.Path, m.Options)
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("load module %s: %w", m.Name, explainModule(err))
		}
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
