package composition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whole completes a text by the roots that it lacks.
func whole(text string) string {
	for _, k := range Kinds() {
		if table := "[" + string(k) + "." + Root + "]"; !strings.Contains(text, table) {
			text += "\n" + table + "\ntype = 'memory'\n"
		}
	}
	return text
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		kind       Kind
		want       Service // of root; Kind, Name and Line are left out
	}{
		{"memory", ``, Blobs, Service{Type: "memory", Address: "memory:"}},
		{"file", "[blobservices.root]\ntype='file'\npath='/a b'", Blobs, Service{Type: "file", Address: "file:///a%20b"}},
		{"sqlite", "[directoryservices.root]\ntype='sqlite'\npath='/x.sqlite'", Directories, Service{Type: "sqlite", Address: "sqlite:///x.sqlite"}},
		{"redb", "[pathinfoservices.root]\ntype='redb'\nis_temporary=false\npath='/x.redb'", PathInfos, Service{Type: "redb", Address: "redb:///x.redb"}},
		{"temporary redb", "[pathinfoservices.root]\ntype='redb'\nis_temporary=true", PathInfos, Service{Type: "redb", Address: "redb:"}},
		{"grpc", "[blobservices.root]\ntype='grpc'\nurl='grpc+http://[::1]:8000'", Blobs, Service{Type: "grpc", Address: "grpc+http://[::1]:8000"}},
		{"objectstore", "[blobservices.root]\ntype='objectstore'\nobject_store_url='s3://b/p'\navg_chunk_size=65536\nobject_store_options={aws_allow_http=true,timeout=30,endpoint='http://h'}", Blobs,
			Service{Type: "objectstore", Address: "objectstore+s3://b/p?avg_chunk_size=65536&aws_allow_http=true&endpoint=http%3A%2F%2Fh&timeout=30"}},
		{"objectstore without options", "[directoryservices.root]\ntype='objectstore'\nobject_store_url='file:///d'", Directories, Service{Type: "objectstore", Address: "objectstore+file:///d"}},
		{"bigtable", "[directoryservices.root]\ntype='bigtable'\nproject_id='p'\ninstance_name='i'\ntable_name='t'\nfamily_name='f'\ntimeout='9'\nis_read_only=true\nchannel_size=2\napp_profile_id='a'", Directories,
			Service{Type: "bigtable", Address: "bigtable://i?app_profile_id=a&channel_size=2&family_name=f&is_read_only=true&project_id=p&table_name=t&timeout=9"}},
		{"combined", "[blobservices.root]\ntype='combined'\nnear='a'\nfar='memory:'\n[blobservices.a]\ntype='memory'", Blobs, Service{Type: "combined", Near: "a", Far: "memory:"}},
		{"cache", "[pathinfoservices.a]\ntype='lru'\ncapacity=9\n[pathinfoservices.root]\ntype='cache'\nnear='a'\nfar='a'", PathInfos, Service{Type: "cache", Near: "a", Far: "a"}},
		{"lru", "[pathinfoservices.root]\ntype='lru'\ncapacity=9", PathInfos, Service{Type: "lru", Capacity: 9}},
		{"keyfile-signing", "[pathinfoservices.root]\ntype='keyfile-signing'\ninner='memory:'\nkeyfile='/k'", PathInfos, Service{Type: "keyfile-signing", Inner: "memory:", KeyFile: "/k"}},
		{"dots and brackets in strings and comments", "# [[[[[[[[[[[[[[[[[[[[\n[blobservices.root]\ntype='file' # ....................\npath=\"/\\\"[[[[[[[[[[[[[[[[[[[[....................\"", Blobs, Service{Type: "file", Address: "file:///%22" + strings.Repeat("%5B", 20) + strings.Repeat(".", 20)}},
		{"inline tables", "blobservices = {root = {type = 'memory'}} # [blobservices.root]", Blobs, Service{Type: "memory", Address: "memory:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f", []byte(whole(tt.text)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Get(tt.kind, Root)
			if err != nil || got.Line == 0 {
				t.Fatalf("root of %s: %+v, %v", tt.kind, got, err)
			}
			got.Kind, got.Name, got.Line = "", "", 0
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, err string }{
		{"not TOML", "[blobservices.root]\ntype = \n", "f:2: "},
		{"unknown table", "\n[blobservice.root]\ntype='memory'", "f:2: unknown table [blobservice]"},
		{"unknown key", "[blobservices.root]\ntype='memory'\npath='/x'", `f:3: [blobservices.root]: unknown key "path" (there is: type)`},
		{"misspelt key", "[blobservices.root]\ntype='cache'\nnaer='a'\nfar='memory:'", `f:3: [blobservices.root]: unknown key "naer" (there is: type, near, far)`},
		{"unknown type", "[blobservices.root]\ntype='ftp'", `f:2: [blobservices.root]: unknown type "ftp" (there is: memory, file, objectstore, grpc, cache, combined)`},
		{"type of another kind", "[blobservices.root]\ntype='sqlite'\npath='/x'", "unknown type"},
		{"no type", "\n\n[blobservices.root]\npath='/x'", "f:3: [blobservices.root]: type is missing"},
		{"type is a number", "[blobservices.root]\ntype=1", "f:2: [blobservices.root]: type has to be a string"},
		{"missing key", "[blobservices.root]\ntype='grpc'", "f:1: [blobservices.root]: url is missing"},
		{"empty value", "[blobservices.root]\ntype='grpc'\nurl=''", "f:3: [blobservices.root]: url is empty"},
		{"no grpc+", "[blobservices.root]\ntype='grpc'\nurl='http://x'", "grpc+http://"},
		{"relative path", "[blobservices.root]\ntype='file'\npath='x'", "not an absolute path"},
		{"relative key file", "[pathinfoservices.root]\ntype='keyfile-signing'\ninner='memory:'\nkeyfile='k'", "not an absolute path"},
		{"capacity 0", "[pathinfoservices.root]\ntype='lru'\ncapacity=0", "f:3: [pathinfoservices.root]: capacity has to be at least 1"},
		{"negative capacity", "[pathinfoservices.root]\ntype='lru'\ncapacity=-1", "a number from 1"},
		{"no capacity", "[pathinfoservices.root]\ntype='lru'", "capacity is missing"},
		{"redb with both", "[directoryservices.root]\ntype='redb'\nis_temporary=true\npath='/x'", "no meaning"},
		{"redb with neither", "[directoryservices.root]\ntype='redb'\nis_temporary=false", "path is missing"},
		{"option that is a table", "[blobservices.root]\ntype='objectstore'\nobject_store_url='s3://b'\nobject_store_options={a={}}", "f:4: [blobservices.root]: object_store_options: a has"},
		{"options that are no table", "[blobservices.root]\ntype='objectstore'\nobject_store_url='s3://b'\nobject_store_options=1", "f:4: [blobservices.root]: object_store_options has to be a table"},
		{"bad URL", "[blobservices.root]\ntype='objectstore'\nobject_store_url='s3://secret%zz'", "f:3: [blobservices.root]: object_store_url is not a URL"},
		{"chunk size of directories", "[directoryservices.root]\ntype='objectstore'\nobject_store_url='s3://b'\navg_chunk_size=9", `unknown key "avg_chunk_size"`},
		{"unknown reference", "[blobservices.root]\ntype='cache'\nnear='a'\nfar='memory:'", `f:1: [blobservices.root]: near = "a": there is no [blobservices.a] (there is: root`},
		{"reference to another kind", "[directoryservices.a]\ntype='memory'\n[blobservices.root]\ntype='cache'\nnear='a'\nfar='memory:'", "there is no [blobservices.a]"},
		{"circle of one", "[blobservices.root]\ntype='cache'\nnear='root'\nfar='memory:'", "root -> root"},
		{"circle of three, not used", "[blobservices.a]\ntype='cache'\nnear='memory:'\nfar='b'\n[blobservices.b]\ntype='cache'\nnear='c'\nfar='memory:'\n[blobservices.c]\ntype='cache'\nnear='a'\nfar='a'", "a -> b -> c -> a"},
		{"table is a value", "blobservices = 1 # [blobservices.root]", "f:1: blobservices has to be a table"},
		{"service is a value", "[blobservices]\nroot = 1 # [blobservices.root]", "f:2: [blobservices.root] has to be a table"},
		{"array of tables", "[[blobservices]]\nroot = 1 # [blobservices.root]", "has to be a table"},
		{"name with a colon", "[blobservices.'a:b']\ntype='memory'", "colon"},
		{"key with many parts", "\n" + strings.Repeat("a.", MaxSize/2-200) + "a=1", "f:2: more than 16"},
		{"many inline tables", strings.Repeat("a={", MaxSize/3-200), "f:1: more than 16"},
		{"many lists", "a='''\n'''\nb=" + strings.Repeat("[\n", 100), "f:19: more than 16"},
		{"lists after a string with quotes at its end", `a=["""x""""", ` + strings.Repeat("[", 100), "f:1: more than 16"},
		{"twice", "[blobservices.root]\ntype='memory'\n[blobservices.root]\ntype='memory'", "f:3: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(whole(tt.text)))
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.HasPrefix(err.Error(), "store composition f") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	for _, k := range Kinds() {
		text := strings.Replace(whole(""), string(k), "removed", 1)
		text = strings.Replace(text, "[removed.root]\ntype = 'memory'", "", 1)
		if _, err := Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), string(k)+".root] is missing") {
			t.Errorf("without the root of %s: %v", k, err)
		}
	}
}

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("missing file: %v", err)
	}
	for text, want := range map[string]string{whole(""): "", strings.Repeat("#", MaxSize+1): "longer"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("file of %d bytes: %v", len(text), err)
		}
	}
	c, err := Parse("f", []byte(whole("")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(Blobs, "none"); err == nil || !strings.Contains(err.Error(), "blobservices.none") {
		t.Errorf("a service that is not there: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"",
		"[blobservices.root]\ntype='combined'\nnear='a'\nfar='grpc+unix:/x'\n[blobservices.a]\ntype='objectstore'\nobject_store_url='s3://b/p?x=1'\nobject_store_options={a=1}",
		"[directoryservices.root]\ntype='bigtable'\nproject_id='p'\ninstance_name='i'\ntable_name='t'\nfamily_name='f'",
		"[pathinfoservices.root]\ntype='keyfile-signing'\ninner='a'\nkeyfile='/k'\n[pathinfoservices.a]\ntype='lru'\ncapacity=1",
		"[directoryservices.root]\ntype='redb'\nis_temporary=false\npath='/x'",
	} {
		if _, err := Parse("f", []byte(whole(text))); err != nil {
			f.Fatalf("the seed %q does not reach the end of the parser: %v", text, err)
		}
		f.Add([]byte(whole(text)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("f", text)
		if err != nil {
			return
		}
		for _, k := range Kinds() {
			for _, s := range c.All(k) {
				if s.Kind != k || s.Type == "" || s.Address != "" && IsName(s.Address) {
					t.Fatalf("%+v", s)
				}
				for _, r := range s.refs() {
					if _, err := c.Get(k, r[1]); IsName(r[1]) && err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}
