package boot

import (
	"fmt"

	"storeboot/internal/bootproto"
)

func (b *boot) hooksBeforeStore() error {
	if b.spec.Hooks == nil {
		return nil
	}
	return b.runHooks(b.spec.Hooks.BeforeStore)
}

func (b *boot) hooksAfterStore() error {
	if b.spec.Hooks == nil {
		return nil
	}
	return b.runHooks(b.spec.Hooks.AfterStore)
}

// runHooks runs the commands in order, each to its end. One that fails ends the
// boot unless it is optional.
func (b *boot) runHooks(hooks []bootproto.Hook) error {
	for _, h := range hooks {
		b.log.info("hook " + h.Argv[0])
		err := b.runHook(h.Argv)
		switch {
		case err == nil:
		case h.Optional:
			b.log.warning("hook " + h.Argv[0] + ": " + err.Error() + " (it is optional)")
		default:
			return fmt.Errorf("hook %s: %w", h.Argv[0], err)
		}
	}
	return nil
}

// runHook runs one command: it reads nothing, writes to the kernel's console,
// and has no terminal, which is the program's that comes later.
func (b *boot) runHook(argv []string) error {
	console, err := b.sys.OpenTerminal(kernelConsole)
	if err != nil {
		return fmt.Errorf("open %s: %w", kernelConsole, err)
	}
	pid, err := b.sys.Start(&Program{
		Argv:     argv,
		Env:      b.environment(),
		Dir:      "/",
		Terminal: console,
		Input:    "/dev/null",
		Session:  true,
	})
	if err != nil {
		return b.explainStart(argv[0], err)
	}
	for {
		ended, status, err := b.sys.Wait()
		switch {
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case ended != pid:
		case status.Signal != 0:
			return fmt.Errorf("ended by signal %d", status.Signal)
		case status.Code != 0:
			return fmt.Errorf("exit status %d", status.Code)
		default:
			return console.Drain()
		}
	}
}
