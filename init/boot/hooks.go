package boot

import (
	"errors"
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

// runHook runs one command. Its output becomes part of the kernel's log.
func (b *boot) runHook(argv []string) error {
	err := b.runLogged(&Program{Argv: argv, Env: b.environment(), Dir: "/"}, "hook: ")
	var start *startError
	if errors.As(err, &start) {
		return b.explainStart(argv[0], start.err)
	}
	return err
}
