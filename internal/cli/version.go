package cli

import "runtime/debug"

// Version is the version of the module as the Go tool recorded it: a release
// tag, a pseudo-version, or "devel" with the revision where one is known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if len(rev) < 12 {
		return "devel"
	}
	return "devel-" + rev[:12] + dirty
}
