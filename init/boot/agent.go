package boot

import (
	"errors"
	"fmt"
	"syscall"

	"storeboot/internal/bootproto"
)

// startAgent starts the agent if the run specification asks for it. Without it
// the guest does its work all the same.
func (b *boot) startAgent() {
	if b.run == nil || b.run.Agent == "" {
		return
	}
	args := []string{string(b.run.Agent)}
	if b.run.Agent == bootproto.AgentPort {
		device, err := b.findPort(bootproto.AgentPortName)
		if err != nil {
			b.log.warning("no agent: " + err.Error())
			return
		}
		args = append(args, device)
	}
	if err := b.sys.StartAgent(args); err != nil {
		b.log.warning("no agent: start it: " + err.Error())
	}
}

// mountShares makes the mounts of the run specification. A share's device may
// take a while to appear; until then its tag is EINVAL.
func (b *boot) mountShares() error {
	if b.run == nil {
		return nil
	}
	for _, m := range b.run.Mounts {
		b.needType(m.Type)
		err := b.waitFor(deviceWait, func() (bool, error) {
			err := b.mount(m)
			return m.Type == "virtiofs" && errors.Is(err, syscall.EINVAL), err
		})
		if m.Type == "virtiofs" && errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("share %s: %w: %s", m.Source, err, b.describeDevices())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
