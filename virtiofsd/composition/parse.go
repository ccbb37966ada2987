package composition

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// service types, with the kinds that have them and what reads their keys.
type serviceType struct {
	name  string
	kinds []Kind
	parse func(*table, *Service)
}

func serviceTypes() []serviceType {
	all, blobs, infos := Kinds(), []Kind{Blobs}, []Kind{PathInfos}
	rows := []Kind{Directories, PathInfos}
	return []serviceType{
		{"memory", all, func(_ *table, s *Service) { s.Address = "memory:" }},
		{"file", blobs, func(t *table, s *Service) { s.Address = t.path("file", "path", true) }},
		{"sqlite", rows, func(t *table, s *Service) { s.Address = t.path("sqlite", "path", true) }},
		{"redb", rows, parseRedb},
		{"objectstore", []Kind{Blobs, Directories}, parseObjectStore},
		{"grpc", all, func(t *table, s *Service) { s.Address = t.grpc("url") }},
		{"bigtable", rows, parseBigtable},
		{"nix", infos, parseNix},
		{"cache", all, parseCache},
		{"combined", blobs, parseCache},
		{"lru", infos, func(t *table, s *Service) {
			n, there := t.number("capacity")
			if !there {
				t.missing("capacity")
			}
			s.Capacity = int(n)
		}},
		{"keyfile-signing", infos, func(t *table, s *Service) {
			s.Inner, s.KeyFile = t.text("inner", true), t.text("keyfile", true)
			if s.KeyFile != "" && !filepath.IsAbs(s.KeyFile) {
				t.failed("keyfile", fmt.Errorf("keyfile = %q is not an absolute path", s.KeyFile))
			}
		}},
	}
}

// path takes an absolute path, as an address.
func (t *table) path(scheme, key string, required bool) string {
	p := t.text(key, required)
	if p != "" && !filepath.IsAbs(p) {
		t.failed(key, fmt.Errorf("%s = %q is not an absolute path", key, p))
	}
	return (&url.URL{Scheme: scheme, Path: p}).String()
}

// grpc takes an address that begins with grpc+.
func (t *table) grpc(key string) string {
	s := t.text(key, true)
	if s != "" && !strings.HasPrefix(s, "grpc+") {
		t.failed(key, fmt.Errorf("%s = %q does not begin with grpc+http://, grpc+https:// or grpc+unix:", key, s))
	}
	return s
}

func parseRedb(t *table, s *Service) {
	temporary, _ := t.boolean("is_temporary")
	s.Address = t.path("redb", "path", !temporary)
	_, there := t.keys["path"]
	switch {
	case temporary && there:
		t.failed("path", errors.New("path has no meaning with is_temporary = true"))
	case temporary:
		s.Address = "redb:"
	}
}

// parseNix takes a binary cache: base_url, public_keys, allow_unsigned, and the
// services that what it has is brought into.
func parseNix(t *table, s *Service) {
	raw := t.text("base_url", true)
	u, err := url.Parse(raw)
	if err != nil {
		t.failed("base_url", errors.New("base_url is not a URL"))
		return
	}
	query := strings.ReplaceAll(u.RawQuery, "+", "%2B")
	add := func(name, value string) {
		if query != "" {
			query += "&"
		}
		query += name + "=" + url.QueryEscape(value)
	}
	var keys []string
	if t.take("public_keys", "a list of strings", &keys) {
		add("trusted-public-keys", strings.ReplaceAll(strings.Join(keys, "\n"), " ", "\n"))
	}
	if unsigned, _ := t.boolean("allow_unsigned"); unsigned {
		add("allow-unsigned", "1")
	}
	u.RawQuery = query
	s.Address = "nix+" + strings.TrimPrefix(u.String(), "nix+")
	if s.Blobs = t.text("blob_service", false); s.Blobs == "" {
		s.Blobs = Root
	}
	if s.Directories = t.text("directory_service", false); s.Directories == "" {
		s.Directories = Root
	}
}

func parseCache(t *table, s *Service) {
	s.Near, s.Far = t.text("near", true), t.text("far", true)
}

func parseObjectStore(t *table, s *Service) {
	u, err := url.Parse(t.text("object_store_url", true))
	if err != nil {
		t.failed("object_store_url", errors.New("object_store_url is not a URL")) // it may hold credentials
		return
	}
	query := u.Query()
	var options map[string]any
	if t.take("object_store_options", "a table", &options) && options == nil {
		t.failed("object_store_options", errors.New("object_store_options has to be a table"))
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		switch v := options[name].(type) {
		case string, bool, int64:
			query.Add(name, fmt.Sprint(v))
		default:
			t.failed("object_store_options", fmt.Errorf("object_store_options: %s has to be a string, a number or a truth value", name))
		}
	}
	if s.Kind == Blobs {
		if n, there := t.number("avg_chunk_size"); there {
			query.Add("avg_chunk_size", strconv.FormatUint(uint64(n), 10))
		}
	}
	u.RawQuery = query.Encode()
	s.Address = "objectstore+" + strings.TrimPrefix(u.String(), "objectstore+")
}

func parseBigtable(t *table, s *Service) {
	query := url.Values{}
	instance := t.text("instance_name", true)
	for _, key := range []string{"project_id", "table_name", "family_name"} {
		query.Set(key, t.text(key, true))
	}
	for _, key := range []string{"timeout", "app_profile_id"} {
		if v := t.text(key, false); v != "" {
			query.Set(key, v)
		}
	}
	if n, there := t.number("channel_size"); there {
		query.Set("channel_size", strconv.FormatUint(uint64(n), 10))
	}
	if b, there := t.boolean("is_read_only"); there {
		query.Set("is_read_only", strconv.FormatBool(b))
	}
	s.Address = (&url.URL{Scheme: "bigtable", Host: instance, RawQuery: query.Encode()}).String()
}

// parse reads the text into c.
func (c *Composition) parse(text string) error {
	if line, err := checkDepth(text); err != nil {
		return c.Error(line, err)
	}
	var tables map[string]toml.Primitive
	md, err := toml.Decode(text, &tables)
	if err != nil {
		var e toml.ParseError
		if errors.As(err, &e) {
			return c.Error(e.Position.Line, errors.New(e.Message))
		}
		return c.Error(0, err)
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		k := Kind(name)
		if !slices.Contains(Kinds(), k) {
			return c.Error(line(&md, tables[name]), fmt.Errorf("unknown table [%s] (there is: %s, %s, %s)", name, Blobs, Directories, PathInfos))
		}
		services := tableOf(&md, tables[name])
		if services == nil {
			return c.Error(line(&md, tables[name]), fmt.Errorf("%s has to be a table of services: write [%s.NAME]", name, name))
		}
		c.services[k] = map[string]Service{}
		for _, name := range slices.Sorted(maps.Keys(services)) {
			s := Service{Kind: k, Name: name, Line: line(&md, services[name])}
			if !IsName(name) || name == "" {
				return c.Error(s.Line, fmt.Errorf("%q cannot be the name of a service: it is empty or has a colon", name))
			}
			if err := c.parseService(&md, services[name], &s); err != nil {
				return err
			}
			c.services[k][name] = s
		}
	}
	return nil
}

// parseService reads the keys of a service.
func (c *Composition) parseService(md *toml.MetaData, p toml.Primitive, s *Service) error {
	t := &table{md: md, line: s.Line, keys: tableOf(md, p)}
	t.fail = func(line int, err error) error { return c.Error(line, fmt.Errorf("%s: %w", s, err)) }
	if t.keys == nil {
		return c.Error(s.Line, fmt.Errorf("%s has to be a table", s))
	}
	if s.Type = t.text("type", true); s.Type == "" {
		if t.err == nil {
			t.err = t.lacks
		}
		return t.err
	}
	var names []string
	for _, typ := range serviceTypes() {
		if !slices.Contains(typ.kinds, s.Kind) {
			continue
		}
		if typ.name == s.Type {
			typ.parse(t, s)
			return t.end()
		}
		names = append(names, typ.name)
	}
	t.failed("type", fmt.Errorf("unknown type %q (there is: %s)", s.Type, strings.Join(names, ", ")))
	return t.err
}
