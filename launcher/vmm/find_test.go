package vmm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	const hangs = "a trial guest did nothing"
	tests := []struct {
		name      string
		installed string
		kvm       bool
		choice    Choice
		input     bool
		want      string // monitor and accelerator
		err       string
	}{
		{"all there", "qemu-system-x86_64 cloud-hypervisor", true, Choice{}, false, "cloud-hypervisor kvm", ""},
		{"all there, with input", "qemu-system-x86_64 cloud-hypervisor", true, Choice{"auto", "auto", "auto"}, true, "qemu kvm", ""},
		{"useless KVM", "qemu-system-x86_64 cloud-hypervisor", false, Choice{}, false, "qemu tcg", ""},
		{"QEMU only", "qemu-system-x86_64", true, Choice{}, false, "qemu kvm", ""},
		{"cloud-hypervisor only", "cloud-hypervisor", true, Choice{}, true, "cloud-hypervisor kvm", ""},
		{"nothing", "", true, Choice{}, false, "", "qemu-system-x86_64 is not in $PATH: apt-get install qemu-system-x86"},
		{"QEMU asked for", "qemu-system-x86_64 cloud-hypervisor", true, Choice{VMM: "qemu"}, false, "qemu kvm", ""},
		{"QEMU asked for, missing", "cloud-hypervisor", true, Choice{VMM: "qemu"}, false, "", "qemu-system-x86_64 is not in $PATH"},
		{"TCG asked for", "qemu-system-x86_64 cloud-hypervisor", true, Choice{Accel: "tcg"}, false, "qemu tcg", ""},
		{"TCG asked for, no QEMU", "cloud-hypervisor", true, Choice{Accel: "tcg"}, false, "", "qemu-system-x86_64 is not in $PATH"},
		{"KVM asked for, useless", "qemu-system-x86_64", false, Choice{Accel: "kvm"}, false, "", hangs},
		{"cloud-hypervisor asked for, missing", "qemu-system-x86_64", true, Choice{VMM: "cloud-hypervisor"}, false, "", "cloud-hypervisor is not in $PATH"},
		{"cloud-hypervisor asked for, useless KVM", "qemu-system-x86_64 cloud-hypervisor", false, Choice{VMM: "cloud-hypervisor"}, false, "", "--accel tcg"},
		{"cloud-hypervisor with TCG", "cloud-hypervisor", true, Choice{VMM: "cloud-hypervisor", Accel: "tcg"}, false, "", "--vmm qemu"},
		{"microvm asked for", "qemu-system-x86_64 cloud-hypervisor", true, Choice{Machine: "microvm"}, false, "qemu kvm", ""},
		{"microvm of cloud-hypervisor", "cloud-hypervisor", true, Choice{VMM: "cloud-hypervisor", Machine: "microvm"}, false, "", "excludes --vmm cloud-hypervisor"},
		{"unknown machine", "", true, Choice{Machine: "pc"}, false, "", "--machine pc: there are auto, q35, microvm and virt"},
		{"unknown VMM", "", true, Choice{VMM: "xen"}, false, "", "--vmm xen: there are auto, qemu and cloud-hypervisor"},
		{"unknown accelerator", "", true, Choice{Accel: "magic"}, false, "", "--accel magic: there are auto, kvm and tcg"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := Host{
				Arch: "amd64",
				LookPath: func(name string) (string, error) {
					for f := range strings.FieldsSeq(tt.installed) {
						if f == name {
							return "/usr/bin/" + f, nil
						}
					}
					return "", exec.ErrNotFound
				},
				Probe: func(_ context.Context, _ *QEMU, patient bool) Probe {
					if want := tt.choice.Accel == "kvm" || tt.choice.VMM == "cloud-hypervisor"; patient != want {
						t.Errorf("patient: %v, want %v", patient, want)
					}
					if tt.kvm {
						return Probe{Usable: true}
					}
					return Probe{Why: hangs}
				},
			}
			need := ""
			if tt.input {
				need = "input"
			}
			got, err := Find(t.Context(), h, tt.choice, "amd64", need)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err == nil && got.Hypervisor.Name()+" "+string(got.Accel) != tt.want {
				t.Errorf("%s %s, want %s", got.Hypervisor.Name(), got.Accel, tt.want)
			}
			if err == nil && got.Why == "" {
				t.Error("does not say why")
			}
		})
	}
}

// TestFindForeign holds that a guest of another architecture is translated.
func TestFindForeign(t *testing.T) {
	h := Host{
		Arch:     "amd64",
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Probe:    func(context.Context, *QEMU, bool) Probe { t.Error("KVM is tried"); return Probe{} },
	}
	got, err := Find(t.Context(), h, Choice{}, "arm64", "")
	if err != nil || got.Accel != TCG || got.Hypervisor.(*QEMU).Path != "/usr/bin/qemu-system-aarch64" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Find(t.Context(), h, Choice{Accel: "kvm"}, "arm64", ""); err == nil || !strings.Contains(err.Error(), "KVM runs no guests of arm64") {
		t.Errorf("with KVM: %v", err)
	}
}

// TestTry boots the trial firmware by translation, where it has to work, and
// tries monitors that do not do what they should.
func TestTry(t *testing.T) {
	t.Run("firmware", func(t *testing.T) {
		qemu, err := exec.LookPath("qemu-system-x86_64")
		if err != nil {
			t.Skip("SKIP: no qemu-system-x86_64 (apt-get install qemu-system-x86)")
		}
		if p := try(t.Context(), qemu, "tcg", "max", time.Minute); !p.Usable {
			t.Errorf("the firmware does not run: %s", p.Why)
		}
	})
	for name, row := range map[string]struct{ script, why string }{
		"hangs": {"exec sleep 60", "did nothing for"},
		"fails": {"echo 'qemu: no such MSR' >&2; echo more >&2; exit 1", "no such MSR"},
		"dies":  {"kill -ABRT $$", "abort"},
		"early": {"exit 0", "ended early"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := writeScript(t, row.script)
			p := try(t.Context(), fake, "kvm", "host", 300*time.Millisecond)
			if name != "hangs" { // the limit must not decide
				p = try(t.Context(), fake, "kvm", "host", time.Minute)
			}
			if p.Usable || !strings.Contains(p.Why, row.why) {
				t.Errorf("usable %v, %q; want %q", p.Usable, p.Why, row.why)
			}
		})
	}
	if p := try(t.Context(), writeScript(t, "exit 91"), "kvm", "host", time.Minute); !p.Usable {
		t.Errorf("status 91 does not count: %s", p.Why)
	}
}

func writeScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fake-qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbeCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new/cache")
	file := filepath.Join(dir, "kvm-probe.json")
	want := Probe{Why: "hangs"}
	writeProbe(file, "key", want)
	if got, ok := readProbe(file, "key"); !ok || got != want {
		t.Errorf("read back %+v, %v", got, ok)
	}
	if _, ok := readProbe(file, "other"); ok {
		t.Error("an answer for another key is taken")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files in the cache, %v", len(entries), err)
	}
	if err := os.WriteFile(file, []byte(`{"key": "key", "usa`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := readProbe(file, "key"); ok {
		t.Error("a torn file is taken")
	}
	if b, err := json.Marshal(cachedProbe{"k", Probe{Usable: true}}); err != nil || string(b) != `{"key":"k","usable":true}` {
		t.Errorf("%s, %v", b, err)
	}
	a, b := writeScript(t, "true"), writeScript(t, "false")
	if probeKey(a) == "" || probeKey(a) != probeKey(a) || probeKey(a) == probeKey(b) || probeKey("/none") != "" {
		t.Errorf("keys %q, %q", probeKey(a), probeKey(b))
	}
}
