package fragment

import (
	"strings"

	"storeboot/internal/kconfig"
)

// Config is f as a piece of a .config, with the reason for each option in the
// line before it.
func (f Fragment) Config() string {
	var b strings.Builder
	b.WriteString("# " + f.Name + ": " + f.Summary + "\n")
	for _, o := range f.Options {
		b.WriteString("\n# " + string(o.Need) + ": " + o.Why + "\n")
		b.WriteString(kconfig.Line(o.Name, o.Want()) + "\n")
	}
	return b.String()
}
