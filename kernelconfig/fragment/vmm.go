package fragment

// cloudHypervisor is what cloud-hypervisor offers and expects beyond the store.
func cloudHypervisor() Fragment {
	return Fragment{
		Name:     "cloud-hypervisor",
		Summary:  "devices of cloud-hypervisor, hot-plugged ones included",
		Includes: []string{"virtiofs"},
		Options: []Option{
			required("PVH", "it starts an uncompressed vmlinux at this entry").on(AMD64),
			required("PCI_MMCONFIG", "its PCI bus is reached through memory").on(AMD64),
			recommended("EFI", "ACPI needs it").on(ARM64),
			required("ACPI", "its only description of the machine"),
			recommended("X86_X2APIC", "more than 255 CPUs, and faster interrupts").on(AMD64),
			recommended("HOTPLUG_PCI", "devices that come while the VM runs"),
			recommended("HOTPLUG_PCI_ACPI", "tells the kernel of such devices"),
			recommended("ACPI_PROCESSOR", "CPUs as ACPI describes them"),
			recommended("HOTPLUG_CPU", "CPUs that come and go"),
			recommended("ACPI_HOTPLUG_CPU", "tells the kernel of such CPUs"),
			recommended("MEMORY_HOTPLUG", "memory that comes while the VM runs").on(AMD64),
			recommended("MEMORY_HOTREMOVE", "memory that goes again; virtio-mem needs it").on(AMD64),
			recommended("COMPACTION", "makes room for large pieces of memory; virtio-mem needs it"),
			recommended("VIRTIO_MEM", "memory by virtio-mem").module().on(AMD64),
			recommended("VIRTIO_BALLOON", "gives memory back to the host").module(),
			recommended("BLOCK", "disks"),
			recommended("BLK_DEV", "disks"),
			recommended("VIRTIO_BLK", "disks").module(),
			recommended("NETDEVICES", "networks"),
			recommended("NET_CORE", "networks"),
			recommended("VIRTIO_NET", "networks").module(),
			recommended("INET", "the internet protocols"),
			recommended("PACKET", "DHCP").module(),
			recommended("INPUT", "the power button is an input device").module(),
			recommended("INPUT_EVDEV", "init and systemd read the power button from it").module(),
			recommended("ACPI_BUTTON", "the power button").module(),
			recommended("VSOCKETS", "sockets between guest and host").module(),
			recommended("VIRTIO_VSOCKETS", "sockets between guest and host").module(),
			recommended("PVPANIC", "tells the VMM of a panic").module(),
			recommended("PVPANIC_PCI", "tells the VMM of a panic").module(),
		},
	}
}

// qemu is what QEMU's q35, microvm and virt machines offer beyond the store.
func qemu() Fragment {
	return Fragment{
		Name:     "qemu",
		Summary:  "devices of QEMU's q35, microvm and virt machines",
		Includes: []string{"virtiofs"},
		Options: []Option{
			recommended("PVH", "starts an uncompressed vmlinux without boot code").on(AMD64),
			recommended("VIRTIO_MMIO", "the devices of microvm").module(),
			recommended("VIRTIO_MMIO_CMDLINE_DEVICES", "finds them where the machine has no ACPI"),
			recommended("FW_CFG_SYSFS", "what QEMU's fw_cfg says").module(),
			recommended("BLOCK", "disks"),
			recommended("BLK_DEV", "disks"),
			recommended("VIRTIO_BLK", "disks").module(),
			recommended("NETDEVICES", "networks"),
			recommended("NET_CORE", "networks"),
			recommended("VIRTIO_NET", "networks").module(),
			recommended("INET", "the internet protocols"),
			recommended("PACKET", "DHCP").module(),
			recommended("VIRTIO_BALLOON", "gives memory back to the host").module(),
			recommended("VSOCKETS", "sockets between guest and host").module(),
			recommended("VIRTIO_VSOCKETS", "sockets between guest and host").module(),
			recommended("PVPANIC", "tells the VMM of a panic").module(),
			recommended("PVPANIC_MMIO", "tells the VMM of a panic").module(),
			recommended("INPUT", "the power button is an input device").module(),
			recommended("INPUT_EVDEV", "init and systemd read the power button from it").module(),
			recommended("ACPI_BUTTON", "the power button").module().on(AMD64),
			recommended("INPUT_KEYBOARD", "the power button of the virt machine is a key").on(ARM64),
			recommended("KEYBOARD_GPIO", "the power button of the virt machine").module().on(ARM64),
			recommended("GPIOLIB", "the power button of the virt machine").on(ARM64),
			recommended("GPIO_PL061", "the power button of the virt machine").module().on(ARM64),
		},
	}
}
