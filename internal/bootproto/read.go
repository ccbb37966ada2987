package bootproto

import (
	"errors"

	"storeboot/internal/strictjson"
)

// What init reads is read here, by hand: see strictjson. TestReadAll holds that
// no key of the structs' tags is missing.

// parse reads a document that consists of one value.
func parse(data []byte, read func(*strictjson.Reader) error) error {
	r := strictjson.NewReader(data)
	if err := read(r); err != nil {
		return err
	}
	return r.End()
}

func (s *BootSpec) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "version":
			return r.Int(&s.Version)
		case "kernel":
			return strictjson.Text(r, &s.Kernel)
		case "modules":
			return strictjson.List(r, &s.Modules, (*BootModule).read)
		case "mounts":
			return strictjson.List(r, &s.Mounts, (*Mount).read)
		case "mode":
			return strictjson.Text(r, &s.Mode)
		case "shell":
			return strictjson.Texts(r, &s.Shell)
		case "hooks":
			if r.Null() {
				return nil
			}
			s.Hooks = new(Hooks)
			return s.Hooks.read(r)
		}
		return r.Unknown(key)
	})
}

func (h *Hooks) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "before_store":
			return strictjson.List(r, &h.BeforeStore, (*Hook).read)
		case "after_store":
			return strictjson.List(r, &h.AfterStore, (*Hook).read)
		}
		return r.Unknown(key)
	})
}

func (h *Hook) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "argv":
			return strictjson.Texts(r, &h.Argv)
		case "optional":
			return r.Bool(&h.Optional)
		}
		return r.Unknown(key)
	})
}

func (m *BootModule) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "name":
			return strictjson.Text(r, &m.Name)
		case "path":
			return strictjson.Text(r, &m.Path)
		case "options":
			return strictjson.Text(r, &m.Options)
		case "needs":
			return strictjson.Texts(r, &m.Needs)
		}
		return r.Unknown(key)
	})
}

func (m *Mount) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "source":
			return strictjson.Text(r, &m.Source)
		case "target":
			return strictjson.Text(r, &m.Target)
		case "type":
			return strictjson.Text(r, &m.Type)
		case "options":
			return strictjson.Text(r, &m.Options)
		}
		return r.Unknown(key)
	})
}

func (s *RunSpec) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "version":
			return r.Int(&s.Version)
		case "argv":
			return strictjson.Texts(r, &s.Argv)
		case "env":
			return strictjson.Texts(r, &s.Env)
		case "dir":
			return strictjson.Text(r, &s.Dir)
		case "stdin":
			return strictjson.Text(r, &s.Stdin)
		case "stdout":
			return strictjson.Text(r, &s.Stdout)
		case "stderr":
			return strictjson.Text(r, &s.Stderr)
		case "control":
			return r.Bool(&s.Control)
		case "terminal":
			return r.Bool(&s.Terminal)
		case "rows":
			return r.Int(&s.Rows)
		case "columns":
			return r.Int(&s.Columns)
		case "user":
			if r.Null() {
				return nil
			}
			s.User = new(User)
			return s.User.read(r)
		case "limit_ms":
			return r.Int64(&s.LimitMillis)
		case "mounts":
			return strictjson.List(r, &s.Mounts, (*Mount).read)
		case "agent":
			return strictjson.Text(r, &s.Agent)
		}
		return r.Unknown(key)
	})
}

func (s *ExecSpec) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "version":
			return r.Int(&s.Version)
		case "argv":
			return strictjson.Texts(r, &s.Argv)
		case "env":
			return strictjson.Texts(r, &s.Env)
		case "dir":
			return strictjson.Text(r, &s.Dir)
		case "terminal":
			return r.Bool(&s.Terminal)
		case "rows":
			return r.Int(&s.Rows)
		case "columns":
			return r.Int(&s.Columns)
		case "user":
			if r.Null() {
				return nil
			}
			s.User = new(User)
			return s.User.read(r)
		}
		return r.Unknown(key)
	})
}

func (u *User) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "uid":
			return r.Uint32(&u.UID)
		case "gid":
			return r.Uint32(&u.GID)
		case "groups":
			return strictjson.List(r, &u.Groups, func(g *uint32, r *strictjson.Reader) error { return r.Uint32(g) })
		}
		return r.Unknown(key)
	})
}

func (c *Control) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "rows":
			return r.Int(&c.Rows)
		case "columns":
			return r.Int(&c.Columns)
		case "signal":
			return r.Int(&c.Signal)
		}
		return r.Unknown(key)
	})
}

// Encode returns the JSON of r, or an error if it is longer than [MaxReport].
func (r *Report) Encode() ([]byte, error) {
	o := strictjson.Object(nil).Number("version", int64(r.Version)).Text("outcome", string(r.Outcome)).
		Int("status", int64(r.Status)).Int("signal", int64(r.Signal)).Text("step", r.Step).Text("message", r.Message)
	if len(r.Steps) > 0 {
		steps := []byte{'['}
		for i, s := range r.Steps {
			if i > 0 {
				steps = append(steps, ',')
			}
			steps = append(steps, strictjson.Object(nil).Text("name", s.Name).Number("start_us", s.Start).Number("took_us", s.Took).JSON()...)
		}
		o = o.Raw("steps", append(steps, ']'))
	}
	data := o.JSON()
	if len(data) > MaxReport {
		return nil, errors.New("the report is too long")
	}
	return data, nil
}
