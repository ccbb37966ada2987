package grpcstore

// SetName makes c speak the names of "snix" or "tvix" without asking.
func (c *Conn) SetName(name string) {
	prefix := "/" + name + "."
	c.prefix.Store(&prefix)
}

// Name is the name that c has found out, or empty.
func (c *Conn) Name() string {
	if p := c.prefix.Load(); p != nil {
		return (*p)[1 : len(*p)-1]
	}
	return ""
}

// ParseAddress says whether an address can be parsed.
func ParseAddress(s string) (server string, err error) {
	a, err := parseAddress(s)
	return a.text, err
}
