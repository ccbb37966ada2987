package bigtablestore

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// address is a parsed bigtable:// address.
type address struct {
	project, instance, table, family string

	profile  string
	channels int
	timeout  time.Duration
	readOnly bool
}

func (a address) String() string { return "bigtable://" + a.instance + " table " + a.table }

func parseAddress(raw string) (address, error) {
	a, err := parse(raw)
	if err != nil {
		return address{}, fmt.Errorf("bigtable address %q: %w", raw, err)
	}
	return a, nil
}

func parse(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return address{}, err
	}
	switch {
	case u.Scheme != "bigtable" || u.Opaque != "" || u.User != nil || u.Fragment != "":
		return address{}, errors.New("not of the form bigtable://INSTANCE?project_id=...&table_name=...&family_name=...")
	case u.Host == "":
		return address{}, errors.New("no instance")
	case u.Path != "" && u.Path != "/":
		return address{}, fmt.Errorf("a path %q has no meaning here", u.Path)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, fmt.Errorf("parameters: %w", err)
	}
	a := address{instance: u.Host, profile: "default", channels: 4, timeout: 4 * time.Second}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) != 1 {
			return address{}, fmt.Errorf("parameter %q is given %d times", name, len(values[name]))
		}
		if err := a.set(name, values[name][0]); err != nil {
			return address{}, err
		}
	}
	for _, required := range []struct{ name, value string }{
		{"project_id", a.project}, {"table_name", a.table}, {"family_name", a.family},
	} {
		if required.value == "" {
			return address{}, fmt.Errorf("parameter %s=... is required", required.name)
		}
	}
	return a, nil
}

func (a *address) set(name, value string) error {
	var err error
	switch name {
	case "project_id":
		a.project = value
	case "table_name":
		a.table = value
	case "family_name":
		a.family = value
	case "app_profile_id":
		a.profile = value
	case "channel_size":
		a.channels, err = strconv.Atoi(value)
		if err != nil || a.channels < 1 || a.channels > 256 {
			return fmt.Errorf("parameter channel_size: %q is not a number from 1 to 256", value)
		}
	case "timeout":
		a.timeout, err = parseSeconds(value)
		if err != nil {
			return fmt.Errorf("parameter timeout: %w", err)
		}
	case "is_read_only":
		a.readOnly, err = strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("parameter is_read_only: %q is neither true nor false", value)
		}
	default:
		return fmt.Errorf("unknown parameter %q (of project_id, table_name, family_name, app_profile_id, channel_size, timeout, is_read_only)", name)
	}
	return nil
}

// parseSeconds takes seconds, with or without the unit s, up to a day.
func parseSeconds(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSuffix(s, "s") + "s")
	if err != nil || d <= 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("%q is not a number of seconds of at most a day", s)
	}
	return d, nil
}
