package main

import (
	"bytes"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
)

// TestOnHost holds what init does where it is not PID 1.
func TestOnHost(t *testing.T) {
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // how each begins
	}{
		{"nothing", nil, 2, "", "init: this is not PID 1"},
		{"words of a kernel", []string{"quiet", "--help"}, 2, "", "init: this is not PID 1"},
		{"help", []string{"--help"}, 0, "init is PID 1 of a storeboot guest", ""},
		{"short help", []string{"-h"}, 0, "init is PID 1 of a storeboot guest", ""},
		{"version", []string{"--version"}, 0, "init ", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := run(1234, tt.args, &out, &errOut)
			if code != tt.code || !strings.HasPrefix(out.String(), tt.stdout) || (out.Len() > 0) != (tt.stdout != "") {
				t.Errorf("exit %d, stdout %q", code, out.String())
			}
			if s := errOut.String(); !strings.HasPrefix(s, tt.stderr) || strings.Count(s, "\n") > 1 || (s != "") != (tt.stderr != "") {
				t.Errorf("stderr %q", s)
			}
		})
	}
}

// TestHelpIsComplete holds that the help names every kernel parameter.
func TestHelpIsComplete(t *testing.T) {
	var out bytes.Buffer
	help(&out)
	for _, p := range bootproto.Parameters() {
		if !strings.Contains(out.String(), "\n  "+p.Name) || !strings.Contains(out.String(), p.Help) {
			t.Errorf("the help lacks %s", p.Name)
		}
	}
}
