// Command generate makes the Go code of the .proto files: the messages of all of
// them, and the services of those of snix (the same handlers serve tvix's
// names). It takes the directory with the .proto files and the directory to
// write below, and needs nothing but Go.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// modulePrefix is what the Go import paths begin with; the files are written
// below the output directory without it.
const modulePrefix = "storeboot/virtiofsd/proto"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: generate PROTO-DIR OUTPUT-DIR")
		os.Exit(2)
	}
	if err := generate(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, from, to string) error {
	var names []string
	err := fs.WalkDir(os.DirFS(from), ".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".proto") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{from}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var all []*descriptorpb.FileDescriptorProto // what a file imports before it
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		all = append(all, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range files {
		add(f)
	}
	isTvix := func(name string) bool { return strings.HasPrefix(name, "tvix/") }
	for _, plugin := range []struct {
		files []string
		run   func(*pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error)
	}{
		{names, messages},
		{slices.DeleteFunc(slices.Clone(names), isTvix), services},
	} {
		r, err := plugin.run(&pluginpb.CodeGeneratorRequest{
			FileToGenerate: plugin.files,
			Parameter:      proto.String("module=" + modulePrefix),
			ProtoFile:      all,
		})
		if err != nil {
			return err
		}
		if r.Error != nil {
			return fmt.Errorf("plugin: %s", r.GetError())
		}
		if err := write(to, r); err != nil {
			return err
		}
	}
	return nil
}

// messages is protoc-gen-go.
func messages(request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		return nil, err
	}
	plugin.SupportedFeatures = internal_gengo.SupportedFeatures
	plugin.SupportedEditionsMinimum = internal_gengo.SupportedEditionsMinimum
	plugin.SupportedEditionsMaximum = internal_gengo.SupportedEditionsMaximum
	for _, f := range plugin.Files {
		if f.Generate {
			internal_gengo.GenerateFile(plugin, f)
		}
	}
	return plugin.Response(), nil
}

// services runs protoc-gen-go-grpc, of the version in go.mod.
func services(request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", "protoc-gen-go-grpc")
	cmd.Stdin = strings.NewReader(string(in))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go-grpc: %w", err)
	}
	r := &pluginpb.CodeGeneratorResponse{}
	return r, proto.Unmarshal(out, r)
}

func write(to string, r *pluginpb.CodeGeneratorResponse) error {
	for _, f := range r.File {
		path := filepath.Join(to, f.GetName())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
