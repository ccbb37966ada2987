package vmm

import (
	"fmt"
	"strings"
)

// Parameter makes "key=value" one word of a kernel command line; an empty value
// gives the key alone. The kernel knows double quotes and no escapes
// (lib/cmdline.c), so a value cannot hold a double quote.
func Parameter(key, value string) (string, error) {
	if value == "" {
		return key, nil
	}
	if err := checkWord(value); err != nil {
		return "", fmt.Errorf("kernel parameter %s: %w", key, err)
	}
	if strings.ContainsAny(value, kernelSpace) {
		return key + `="` + value + `"`, nil
	}
	return key + "=" + value, nil
}

// Argument makes s one word behind the "--" of a kernel command line.
func Argument(s string) (string, error) {
	if err := checkWord(s); err != nil {
		return "", fmt.Errorf("argument: %w", err)
	}
	if s == "" || strings.ContainsAny(s, kernelSpace) {
		return `"` + s + `"`, nil
	}
	return s, nil
}

// kernelSpace is what separates words: isspace() of the kernel, in ASCII.
const kernelSpace = " \t\n\v\f\r"

func checkWord(s string) error {
	if strings.ContainsAny(s, "\"\x00") {
		return fmt.Errorf("%q: a kernel command line cannot carry a double quote", s)
	}
	return nil
}
