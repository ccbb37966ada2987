package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// row is one way to start one kernel on one machine.
type row struct {
	way, machine, kernel string
	command              func(context.Context) *exec.Cmd
	times                []sample
}

func (r *row) name() string { return r.way + " " + r.machine + " " + filepath.Base(r.kernel) }

// flags of QEMU for each machine: what the launcher leaves out is left out.
var boards = map[string]string{
	"q35":     "q35,usb=off,sata=off,smbus=off,vmport=off",
	"microvm": "microvm",
}

// words are the launcher's kernel parameters.
const words = "console=ttyS0 panic=-1 reboot=t tsc=reliable no_timer_check 8250.nr_uarts=1 i8042.noaux i8042.nokbd cryptomgr.notests quiet"

const memory = "512M"

// rows are all that this machine can do, each beside its floor.
func (o options) rows() ([]*row, error) {
	kernels, err := o.findKernels()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(o.dir, "path"))
	if err != nil {
		return nil, fmt.Errorf("nothing was prepared in %s: %w", o.dir, err)
	}
	program := string(text) + "/bin/" + hello
	help, err := exec.Command(filepath.Join(o.dir, "launcher"), "run", "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("launcher: %w", err)
	}
	cpu := "max"
	if o.accel == "kvm" {
		cpu = "host"
	}
	var rows []*row
	for _, kernel := range kernels {
		for _, machine := range o.machines {
			var flags []string
			floor := func(ctx context.Context) *exec.Cmd {
				return exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
					"-machine", boards[machine], "-accel", o.accel, "-cpu", cpu, "-smp", "1", "-m", memory,
					"-kernel", kernel, "-initrd", filepath.Join(o.dir, "floor.img"), "-append", words, "-serial", "stdio")
			}
			switch {
			case machine == "cloud-hypervisor":
				flags = []string{"--vmm", machine}
				floor = func(ctx context.Context) *exec.Cmd {
					return exec.CommandContext(ctx, "cloud-hypervisor", "--cpus", "boot=1", "--memory", "size="+memory, "--console", "off", "--serial", "tty",
						"--kernel", kernel, "--initramfs", filepath.Join(o.dir, "floor.img"), "--cmdline", words)
				}
			case boards[machine] == "":
				return nil, fmt.Errorf("machine %q: there are q35, microvm and cloud-hypervisor", machine)
			case strings.Contains(string(help), "--machine"):
				flags = []string{"--vmm", "qemu", "--machine", machine}
			case machine == "q35":
				flags = []string{"--vmm", "qemu"}
			default:
				fmt.Fprintf(os.Stderr, "bootbench: SKIP: the launcher has no --machine for %s\n", machine)
				continue
			}
			rows = append(rows, &row{way: "floor", machine: machine, kernel: kernel, command: floor},
				&row{way: "ours", machine: machine, kernel: kernel, command: func(ctx context.Context) *exec.Cmd {
					args := append([]string{"run", "--accel", o.accel, "--memory", memory, "--kernel", kernel}, flags...)
					return o.ours(ctx, "launcher", append(args, program)...)
				}})
		}
	}
	return rows, nil
}
