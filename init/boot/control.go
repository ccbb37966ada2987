package boot

import (
	"errors"
	"sync"
	"syscall"

	"storeboot/internal/bootproto"
)

// obey does what the launcher says while the process pid runs, until stop is
// called, which it always may be.
func (b *boot) obey(pid int) (stop func(), err error) {
	stop = func() {}
	port, err := b.findPort(bootproto.ControlPortName)
	if err != nil {
		return stop, err
	}
	p, err := b.sys.Process(pid)
	if err != nil {
		return stop, err
	}
	c := &controlled{process: p, terminal: b.console, log: &b.log}
	if err := b.sys.Lines(port, c.obey); err != nil {
		_ = p.Close()
		return stop, err
	}
	return c.stop, nil
}

// controlled is a program as far as the launcher controls it.
type controlled struct {
	log *kernelLog

	mu       sync.Mutex
	process  Process // nil when it has ended
	terminal Terminal
}

// obey takes one line of the control port.
func (c *controlled) obey(line string) {
	order, err := bootproto.ParseControl([]byte(line))
	if err != nil {
		c.log.warning(err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return
	}
	if order.Rows > 0 && order.Columns > 0 {
		if err := c.terminal.Resize(order.Rows, order.Columns); err != nil {
			c.log.warning("resize the terminal: " + err.Error())
		}
	}
	if order.Signal > 0 {
		if err := c.process.Signal(order.Signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			c.log.warning("signal the program: " + err.Error())
		}
	}
}

// stop ends it: the process has ended.
func (c *controlled) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Close()
		c.process = nil
	}
}
